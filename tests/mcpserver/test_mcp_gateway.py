"""The MCP server between several agents and a broker elsewhere: each is itself, or refused."""

import asyncio
import hashlib
import os
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
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
            told = (
                message["untrusted_envelope"]["from"],
                message["sender"]["name"],
                message["untrusted_content"],
            )
            assert told == (sender, GENUINE, f"from {sender}")
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


async def refusal(*options, **environment):
    """Start the program, and return what it says when it does not."""
    process = await asyncio.create_subprocess_exec(
        *(str(MQ9_MCP), "--http", "--port", "0", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        async with asyncio.timeout(30):
            out, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert out == b""
    assert process.returncode == 2
    return " ".join(said.decode().split())


async def test_a_broker_that_lets_anybody_in_is_refused_at_the_start(tmp_path):
    async with Serving(tmp_path, "--memory") as broker:
        said = await refusal("--tokens", str(write_users(tmp_path, USERS)), "--server", broker.url)
    assert "lets anybody in, so it cannot tell the agents of --tokens apart" in said
    assert "start it with the same file as --users" in said


async def test_one_login_for_all_agents_is_refused_at_the_start(tmp_path):
    url = "nats://operator:of-all@127.0.0.1:1"
    said = await refusal("--tokens", str(write_users(tmp_path, USERS)), "--server", url)
    assert "names a user or token, but with --tokens each agent connects with its own" in said
    assert "of-all" not in said


VERIFIER = """
class Anybody:
    async def verify_token(self, token):
        raise AssertionError("nobody has called")
"""


async def test_a_verifier_whose_tokens_no_broker_knows_is_refused_at_the_start(tmp_path):
    (tmp_path / "verifiers.py").write_text(VERIFIER)
    options = ("--verifier", "verifiers:Anybody", "--server", "nats://127.0.0.1:1")
    said = await refusal(*options, PYTHONPATH=str(tmp_path))
    assert "verifier: a server knows agents by its own users file" in said
