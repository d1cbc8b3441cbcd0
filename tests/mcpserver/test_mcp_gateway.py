"""The MCP server between several agents and a broker elsewhere: each is itself, or refused."""

import asyncio
import hashlib
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from calling import run
from hosting import GENUINE
from over_http import connected
from programs import MQ9_MCP, McpServing
from serving import Serving
from users_file import write_users

from mq9 import Mq9Client

pytestmark = pytest.mark.programs

ADA, BOB = "the-token-of-ada", "the-token-of-bob"
USERS = f"""
users = [
  {{agent = "Ada", token = "sha256:{hashlib.sha256(ADA.encode()).hexdigest()}"}},
  {{agent = "bob", token = "{BOB}"}},
  {{user = "operator", password = "of-all"}},
]
"""


@asynccontextmanager
async def gateway(directory, broker_users=USERS):
    """A broker, a gateway to it, and a host of each agent."""
    users = str(write_users(directory, USERS))
    theirs = str(write_users(directory, broker_users, "broker.toml"))
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Serving(directory, "--users", theirs, "--memory"))
        mcp = await asyncio.to_thread(
            stack.enter_context,
            McpServing(directory, "--tokens", users, "--server", broker.url),
        )
        hosts = [
            await stack.enter_async_context(connected(mcp.url, token=token)) for token in (ADA, BOB)
        ]
        yield broker, *hosts


@pytest.mark.quick
async def test_each_agent_s_messages_reach_the_broker_as_that_agent_s(tmp_path):
    async with gateway(tmp_path) as (broker, ada, bob):
        await bob.do("whoami")
        await ada.do("whoami")
        await asyncio.gather(
            ada.do("send_message", to="bob", content="from Ada"),
            bob.do("send_message", to="ada", content="from bob"),
        )
        for host, sender in ((bob, "Ada"), (ada, "bob")):
            [message] = (await host.do("fetch_messages"))["messages"]
            assert message["untrusted_envelope"]["from"] == sender
            assert message["sender"]["name_is"] == GENUINE
            assert message["untrusted_content"] == f"from {sender}"
        url = broker.url.replace("//", "//operator:of-all@")
        async with Mq9Client(url) as operator:
            [message] = await operator.query("bob")
            assert (message.sender, message.sender_verified) == ("Ada", True)


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (USERS.replace('"Ada"', '"Eve"'), "takes these credentials for the agent 'Eve', not for"),
        (USERS.replace('agent = "Ada", ', ""), "takes these credentials for no agent, not for"),
        (USERS.replace("{agent", "# {agent", 1), "refused the user or token"),
    ],
    ids=["another", "operator", "unknown"],
)
async def test_an_agent_whom_the_broker_takes_for_somebody_else_is_refused(tmp_path, theirs, told):
    async with gateway(tmp_path, theirs) as (_, ada, bob):
        await bob.do("whoami")
        for tool, arguments in (
            ("send_message", {"to": "bob", "content": "x"}),
            ("whoami", {}),
        ):
            said = await ada.fail(tool, **arguments)
            assert said.startswith("no connection to the broker: ")
            assert told in said
        assert (await bob.do("query_messages"))["messages"] == []


async def test_a_broker_that_lets_anybody_in_is_refused_at_the_start(tmp_path, hosted):
    options = ("--tokens", str(write_users(tmp_path, USERS)), "--server", hosted.server.url)
    done = await asyncio.to_thread(run, MQ9_MCP, "--http", "--port", "0", *options)
    assert (done.returncode, done.stdout) == (2, "")
    said = " ".join(done.stderr.split())
    assert "lets anybody in, so it cannot tell the agents of --tokens apart" in said
    assert "start it with the same file as --users" in said
