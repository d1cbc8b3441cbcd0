"""MCP on the HTTP port of `mq9 serve`."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hosting import GENUINE
from over_http import OLDER, Wire, by_hand, connected
from serving import Serving, refusal
from users_file import write_users
from waiting import until_fetching

from mq9 import Forbidden, InvalidRequest, Mq9Client
from mq9.server.settings import ServerSettings

pytestmark = pytest.mark.programs

INBOX = "mq9://mailbox/desk"


USERS = """
users = [
  {agent = "ada", token = "the-token-of-ada"},
  {agent = "bob", user = "bob", password = "the-password"},
  {agent = "cy", token = "the-token-of-cy"},
]
"""


def mcp_url(server):
    url = server.metrics_url.replace("/metrics", "/mcp")
    assert f"mcp url={url}\n" in server.told
    return url


@pytest.mark.quick
async def test_mcp_clients_and_nats_clients_mail_each_other(tmp_path, era):
    options = ("--mcp", "--mcp-agent", "Desk", "--memory", "--mcp-allow-host", "mail.example")
    async with (
        Serving(tmp_path, *options, admin=True) as server,
        connected(mcp_url(server), era) as desk,
        Mq9Client(server.url) as client,
        by_hand() as http,
    ):
        await client.mailbox_create(name="worker")
        await desk.do("send_message", to="worker", content="to NATS")
        [message] = await client.fetch("worker", group_name="g", deliver="earliest")
        assert (message.sender, message.sender_verified, message.text) == ("Desk", False, "to NATS")

        waiting = asyncio.create_task(desk.do("fetch_messages", wait_seconds=45))
        await client.send("desk", "to MCP", sender="worker")
        [told] = (await waiting)["messages"]
        assert told["untrusted_envelope"]["from"] == "worker"
        assert told["untrusted_content"] == "to MCP"
        assert told["sender"] == {"name_is": "claimed, not checked"}

        metrics = (await http.get(server.metrics_url)).text
        assert "mq9_build_info" in metrics
        for path, said in (("healthz", "ok"), ("readyz", '{"ready":true}')):
            answer = await http.get(server.metrics_url.replace("metrics", path))
            assert (answer.status_code, answer.text) == (200, said)
        for name, status in (("mail.example", 200), ("other.example", 421)):
            assert (await Wire(mcp_url(server), Host=name).ask()).status_code == status


async def test_bearer_tokens_are_the_tokens_of_the_users(tmp_path, era):
    options = ("--mcp", "--users", str(write_users(tmp_path, USERS)), "--memory")
    async with (
        Serving(tmp_path, *options, admin=True) as server,
        connected(mcp_url(server), era, "the-token-of-ada") as ada,
        connected(mcp_url(server), era, "the-token-of-cy") as cy,
        Mq9Client(server.url.replace("//", "//bob:the-password@")) as bob,
        by_hand() as http,
    ):
        # Theirs are their mailboxes before they call.
        assert "cy belongs to another agent" in await ada.fail("create_mailbox", name="cy")
        await ada.do("send_message", to="cy", content="hello")
        assert len((await cy.do("fetch_messages"))["messages"]) == 1
        await bob.send("ada", "hello")
        [message] = (await ada.do("fetch_messages"))["messages"]
        sender = message["sender"]["name_is"]
        assert (message["untrusted_envelope"]["from"], sender) == ("bob", GENUINE)
        await bob.mailbox_create(name="bob")
        await ada.do("send_message", to="bob", content="hello")
        [message] = await bob.fetch("bob", group_name="g", deliver="earliest")
        assert (message.sender, message.sender_verified) == ("ada", True)
        with pytest.raises(Forbidden):
            await bob.query("ada")
        assert "not ada" in await cy.fail("query_messages", mail_address="ada")
        for token in (None, "the-password", "bob"):
            given = {} if token is None else {"Authorization": f"Bearer {token}"}
            assert (await Wire(mcp_url(server), **given).ask()).status_code == 401
        assert (await http.get(server.metrics_url)).status_code == 200


async def test_told_to_stop_it_answers_a_fetch_that_waits(tmp_path, era):
    options = ("--mcp", "--mcp-agent", "desk", "--memory", "--drain", "3600")
    async with Serving(tmp_path, *options, admin=True) as server:
        wire = Wire(mcp_url(server), era)
        if era == OLDER:
            await wire.begin()
        await wire.call("whoami")
        waiting = asyncio.create_task(wire.call("fetch_messages", wait_seconds=45))
        async with Mq9Client(server.url) as client:
            await until_fetching(client, "desk", "desk")
        server.stop()
        assert '"empty":"no mail waits"' in (await waiting).text
        assert await server.ended() == 0
        assert "Traceback" not in server.told


async def test_told_to_stop_it_waits_for_no_listener(tmp_path, era):
    options = ("--mcp", "--mcp-agent", "desk", "--memory", "--drain", "3600")
    async with Serving(tmp_path, *options, admin=True) as server:
        listening = asyncio.Event()

        async def listen():
            async with connected(mcp_url(server), era) as desk, AsyncExitStack() as stack:
                if era == OLDER:
                    await desk.client.subscribe_resource(INBOX)
                else:
                    events = desk.client.listen(resource_subscriptions=[INBOX])
                    await stack.enter_async_context(events)
                listening.set()
                await asyncio.Event().wait()

        listener = asyncio.create_task(listen())
        await listening.wait()
        server.stop()
        assert await server.ended() == 0
        assert "Traceback" not in server.told
        assert " ERROR " not in server.told
        listener.cancel()
        await asyncio.wait([listener])  # by an error or not: its server has ended
        if not listener.cancelled():
            assert listener.exception() is not None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--mcp"], "mcp: say who MCP clients are, by --users, whose tokens"),
        (["--mcp-agent", "desk"], "mcp-agent: 'desk' is for --mcp"),
        (["--mcp", "--mcp-agent", "auto"], "mcp-agent: 'auto' names the agent after the one host"),
        (["--mcp", "--mcp-agent", "!!!"], "mail_address: '!!!' has no letter a-z and no digit"),
        (["--mcp", "--users", "users.toml"], "mail_address: '!!!' has no letter a-z and no digit"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, monkeypatch, options, complaint):
    monkeypatch.chdir(tmp_path)
    write_users(tmp_path, 'users = [{agent = "!!!", token = "x"}]\n')
    code, line = refusal("--memory", "--admin-port", "0", *options)
    assert code == 2
    assert line.startswith(f"error: {complaint}")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"mcp_agent": "desk", "users": Path("users.toml")}, "mcp: say who MCP clients are"),
        ({"mcp_agent": "desk", "auth_token": "x"}, "mcp: with --auth-token MCP clients would"),
        ({"mcp_agent": "desk", "admin": False}, "mcp: it is served on the admin port"),
    ],
)
def test_so_is_all_that_would_let_somebody_in_by_mistake(settings, complaint):
    with pytest.raises(InvalidRequest, match=f"^{complaint}"):
        ServerSettings(mcp=True, **settings)
