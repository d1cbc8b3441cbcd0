"""Agents are authenticated by bearer tokens over HTTP."""

import asyncio
import hashlib
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hosting import ERAS, GENUINE
from mcp.shared.exceptions import MCPError
from over_http import Names, Wire, by_hand, connected, served, waits
from programs import McpServing
from users_file import write_users

from mcp_server.http.authentication import KnownTokens
from mq9 import Mq9Client
from mq9.server.users import Users

ADA, BOB, CY = (f"the-token-of-{name}" for name in ("ada", "bob", "cy"))
USERS = f"""
users = [
  {{agent = "ada", token = "{ADA}"}},
  {{agent = "bob", token = "sha256:{hashlib.sha256(BOB.encode()).hexdigest()}"}},
  {{agent = "cy", token = "{CY}"}},
  {{agent = "dan", user = "dan", password = "the-password"}},
  {{token = "of-an-operator"}},
  {{agent = "boss", role = "operator", token = "of-boss"}},
  {{agent = "eve", role = "reader", token = "of-a-reader"}},
]
"""


@pytest.fixture
def users_file(tmp_path):
    return write_users(tmp_path, USERS)


@pytest.fixture
def known(users_file):
    return KnownTokens(Users.from_file(users_file))


async def test_without_the_token_of_an_agent_nobody_comes_in(still_broker, known):
    digest = hashlib.sha256(BOB.encode()).hexdigest()
    others = ["of-an-operator", "of-boss", "of-a-reader"]
    tokens = ["wrong", "the-password", "dan", "dan:the-password", *others, digest]
    bearers = [f"Bearer {token}" for token in (*tokens, f"sha256:{digest}", f"{ADA}x")]
    async with served(still_broker, verifier=known) as url, by_hand() as http:
        for authorization in (None, *bearers, f"Basic {ADA}", ADA):
            headers = {} if authorization is None else {"Authorization": authorization}
            for era in ERAS:
                refused = await Wire(url, era, **headers).ask()
                assert refused.status_code == 401, authorization
                assert refused.headers["WWW-Authenticate"].startswith(
                    'Bearer error="invalid_token"'
                )
            for method in ("GET", "DELETE", "PUT", "OPTIONS"):
                assert (await http.request(method, url, headers=headers)).status_code == 401
        assert (await Wire(url, Authorization=f"bearer {ADA}").ask()).status_code == 200


async def test_a_token_says_who_asks_on_one_server_at_the_same_time(still_broker, known, variant):
    async with (
        served(still_broker, verifier=known, stateless=variant.stateless) as url,
        connected(url, variant.era, ADA) as ada,
        connected(url, variant.era, BOB) as bob,
    ):
        hosts = {"ada": ada, "bob": bob}

        async def one_round(number):
            me = ("ada", "bob")[number % 2]
            await hosts[me].do("send_message", to=me, content=f"from {me}")
            assert (await hosts[me].do("whoami"))["mail_address"] == me

        await asyncio.gather(*map(one_round, range(40)))
        for me, host in hosts.items():
            found = (await host.do("query_messages", limit=50))["messages"]
            assert {
                (one["untrusted_envelope"]["from"], one["untrusted_content"]) for one in found
            } == {(me, f"from {me}")}
            assert len(found) == 20
        told = await ada.fail("query_messages", mail_address="bob")
        assert "ada may read its own mailbox ada and what it made, not bob" in told
        with pytest.raises(MCPError, match="not bob"):
            await ada.client.read_resource("mq9://mailbox/bob")
        [listed] = [
            one for one in (await bob.client.list_resources()).resources if "mailbox" in one.uri
        ]
        assert listed.uri == "mq9://mailbox/bob"


async def test_a_verified_name_that_can_be_no_agent_is_told(still_broker, variant):
    async with (
        served(still_broker, verifier=Names(), stateless=variant.stateless) as url,
        connected(url, variant.era, "!!!") as nobody,
    ):
        told = await nobody.fail("whoami")
        assert told.startswith("mail_address: '!!!' has no letter a-z and no digit to make one of")
        with pytest.raises(MCPError, match="'!!!' has no letter"):
            await nobody.client.list_resources()
        with pytest.raises(MCPError, match="'!!!' has no letter"):
            await nobody.client.read_resource("mq9://mailbox/desk")


@pytest.mark.programs
async def test_agents_with_tokens_count_as_authenticated_and_send_where_their_file_says(tmp_path):
    users = USERS.replace('agent = "ada",', 'agent = "ada", allow_send = ["bob"],')
    options = ("--tokens", str(write_users(tmp_path, users)), "--allow-read", "*")
    url = f"sqlite:///{tmp_path / 'mail.db'}"
    async with Mq9Client(url) as before:
        for name in ("bob", "open"):
            await before.mailbox_create(name=name)
    with McpServing(tmp_path, *options, "--server", url) as server:
        async with AsyncExitStack() as stack:
            ada, bob, cy = [
                await stack.enter_async_context(connected(server.url, token=token))
                for token in (ADA, BOB, CY)
            ]
            await bob.do("whoami")
            await ada.do("send_message", to="bob", content="for bob only")
            told = await ada.fail("send_message", to="cy", content="x")
            assert "you may not send to cy; the operator's allow_send" in told
            [message] = (await bob.do("fetch_messages"))["messages"]
            assert message["untrusted_envelope"]["from"] == "ada"
            assert message["sender"]["name_is"] == GENUINE
            for tool in ("query_messages", "fetch_messages"):
                told = await cy.fail(tool, mail_address="bob")
                assert "bob belongs to another agent" in told
                told = await cy.fail(tool, mail_address="open")
                assert "open has no creator and is closed to agents" in told
            with pytest.raises(MCPError, match="belongs to another"):
                await cy.client.read_resource("mq9://mailbox/bob")


@pytest.fixture
def crowd(still_broker, monkeypatch):
    """Open hosts of so many agents at a server that connects three."""
    monkeypatch.setattr("mcp_server.callers.MAX_AGENTS", 3)

    @asynccontextmanager
    async def open_all(count):
        names = [f"agent.{number}" for number in range(count)]
        async with served(still_broker, verifier=Names()) as url, AsyncExitStack() as stack:
            hosts = [await stack.enter_async_context(connected(url, token=name)) for name in names]
            yield names, hosts

    return open_all


async def test_agents_that_are_idle_make_room_and_come_back(crowd):
    async with crowd(5) as (names, hosts):
        for _ in range(3):
            for name, host in zip(names, hosts, strict=True):
                told = await host.do("whoami")
                assert (told["name"], told["mail_address"]) == (name, name)
        await hosts[0].do("send_message", to=names[4], content="x")
        [message] = (await hosts[4].do("fetch_messages"))["messages"]
        sender = message["sender"]["name_is"]
        assert (message["untrusted_envelope"]["from"], sender) == (names[0], GENUINE)
        made = (await hosts[0].do("create_mailbox"))["mail_address"]
        for host in hosts[1:]:
            await host.do("whoami")
        assert (await hosts[0].do("query_messages", mail_address=made))["messages"] == []


async def test_when_all_agents_are_busy_no_other_comes_in(still_broker, crowd):
    async with crowd(4) as (names, (*busy, late)):
        waiting = [asyncio.create_task(host.do("fetch_messages", wait_seconds=45)) for host in busy]
        await waits(still_broker, 3)
        said = "3 agents are connected, and all of them are busy. Tell the user."
        assert await late.fail("whoami") == said
        with pytest.raises(MCPError, match="all of them are busy"):
            await late.client.read_resource(f"mq9://mailbox/{names[3]}")
        assert (await busy[0].do("whoami"))["name"] == names[0]  # who is connected goes on

        async with still_broker.client() as sender:
            await sender.send(names[1], "x")
        await still_broker.clock.advance(1)  # for which it collects
        assert len((await waiting[1])["messages"]) == 1
        assert (await late.do("whoami"))["name"] == names[3]
        for task in (waiting[0], waiting[2]):
            assert not task.done()
            task.cancel()
