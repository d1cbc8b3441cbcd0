"""`mq9 exec --from`: who may have a command run."""

import sys
from urllib.parse import quote

import pytest
from serving import Serving
from users_file import write_users

from execution.conftest import started
from mq9 import InvalidRequest, Mq9Client
from mq9.cli.exec.senders import Senders

AGENTS = ["robot", "ada", "bob"]


@pytest.fixture
async def agents(tmp_path):
    """The clients of three agents that the broker knows."""
    url = f"memory://{tmp_path.name}"
    async with (
        Mq9Client(url, agent="robot", agents=AGENTS) as robot,
        Mq9Client(url, agent="ada", agents=AGENTS) as ada,
        Mq9Client(url, agent="bob", agents=AGENTS) as bob,
    ):
        for client, name in ((robot, "robot"), (ada, "ada"), (bob, "bob")):
            await client.mailbox_create(name=name, renew=True)
        yield robot, ada, bob


@pytest.fixture
async def stranger(broker):
    """A client with a mailbox, of a broker that knows nobody."""
    async with broker.client() as client:
        await client.mailbox_create(name="inbox")
        yield client


async def received(robot, *clients):
    for client in clients:
        await client.send("robot", "x")
    return await robot.fetch("robot", max_wait_ms=0)


async def test_known_are_those_to_whom_the_agent_has_written(agents):
    robot, ada, bob = agents
    senders = Senders(robot, "robot", [])
    await senders.prepare(is_private=False)
    await robot.send("ada", "hello", correlation_id="q-1")
    [from_ada, from_bob] = await received(robot, ada, bob)
    assert await senders.why_not(from_ada) is None
    assert await senders.why_not(from_bob) == "this agent takes no mail from its sender"


async def test_a_verified_name_is_let_in_and_a_claimed_one_is_not(agents, stranger):
    robot, ada, bob = agents
    senders = Senders(robot, "robot", ["bob"])
    await senders.prepare(is_private=True)
    [from_ada, from_bob] = await received(robot, ada, bob)
    assert await senders.why_not(from_ada) is not None
    assert await senders.why_not(from_bob) is None
    await stranger.send("inbox", "x", sender="bob")
    [claimed] = await stranger.fetch("inbox", max_wait_ms=0)
    assert "does not know who sent it" in await senders.why_not(claimed)


async def test_everyone_is_everyone_and_the_default_on_a_file(stranger):
    await stranger.send("inbox", "x")
    [message] = await stranger.fetch("inbox", max_wait_ms=0)
    for given in (["everyone"], []):
        senders = Senders(stranger, "robot", given)
        await senders.prepare(is_private=True)
        assert await senders.why_not(message) is None


async def test_a_server_that_knows_nobody_has_to_be_chosen_for(stranger):
    senders = Senders(stranger, "robot", [])
    with pytest.raises(InvalidRequest, match="--from everyone"):
        await senders.prepare(is_private=False)


USERS = "\n".join(f'[[users]]\nagent = "{name}"\ntoken = "the token of {name}"' for name in AGENTS)


@pytest.mark.programs
@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
async def test_on_a_server_the_command_runs_for_known_senders_and_knows_no_token(tmp_path):
    users = write_users(tmp_path, USERS)
    async with Serving(tmp_path, "--memory", "--users", str(users)) as server:
        urls = {
            name: server.url.replace("//", f"//{quote(f'the token of {name}')}@") for name in AGENTS
        }
        async with (
            Mq9Client(urls["robot"]) as robot,
            Mq9Client(urls["ada"]) as ada,
            Mq9Client(urls["bob"]) as bob,
        ):
            for client, name in ((robot, "robot"), (ada, "ada"), (bob, "bob")):
                await client.mailbox_create(name=name)
            await robot.send("ada", "hello", correlation_id="q-1")
            await ada.send("robot", "x", reply_to="ada", correlation_id="q-2")
            await bob.send("robot", "y", reply_to="bob", correlation_id="q-3")
            script = 'echo "$MQ9_SENDER $MQ9_SENDER_VERIFIED"; env | grep -c "the%20token"; true'
            done = await started(urls["robot"], tmp_path, "--once", "--", "sh", "-c", script)
            assert done.code == 0, done.err
            [_, answer] = await ada.query("ada")
            assert answer.text == "ada true\n0\n"


@pytest.mark.programs
async def test_on_a_server_without_users_it_does_not_start(hosted, tmp_path):
    done = await started(hosted.server.url, tmp_path, "--", "cat")
    assert (done.code, done.out) == (2, "")
    assert "--from everyone" in done.err
