"""The drills of the guide for operators, command by command, on a cluster with faults."""

import asyncio
import re
import shlex
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner
from waiting import until

from mq9.cli.app import app
from mq9.errors import InvalidRequest, LimitReached, Unreachable

from .clusters import Members
from .traffic import everything

pytestmark = pytest.mark.programs

PAGE = Path(__file__).parents[2] / "docs/how-to/operate.md"
SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIGEST = re.compile(r"\b[0-9a-f]{32}\b")
DRILLS = {
    heading: BLOCK.findall(text)
    for heading, text in SECTION.findall(PAGE.read_text("utf-8"))
    if BLOCK.search(text)
}


@pytest.fixture
def drill(members, tmp_path, monkeypatch):
    """Run the next block of a section; what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MQ9_SERVER", members.url)
    left = {heading: list(blocks) for heading, blocks in DRILLS.items()}

    async def run(heading):
        printed = []
        for line in left[heading].pop(0).splitlines():
            program, *words = shlex.split(line)
            assert program == "mq9"
            done = await asyncio.to_thread(CliRunner().invoke, app, words)
            assert done.exit_code == 0, (line, done.output)
            printed.append(done.stdout)
        return printed

    yield run
    begun = [heading for heading, blocks in left.items() if len(blocks) < len(DRILLS[heading])]
    assert not [heading for heading in begun if left[heading]]  # each is run to its end


@pytest.fixture
async def served(members):
    """A gateway with a mailbox and a message."""
    await members.start("one")
    client = await members.inbox()
    await client.send("inbox", "kept")
    return client


async def texts(client):
    return [message.text for message in await everything(client, "g")]


async def test_back_up_and_restore(served, members, drill):
    *_, digest = await drill("Back up a cluster")
    assert re.match(r"[0-9a-f]{64}\n|[0-9a-f]{32}\n", digest), digest
    await served.send("inbox", "after the backup")
    await members.stop("one")
    *_, imported = await drill("Restore a cluster")
    for name in ("one", "two"):
        await members.start(name)
    [verified] = await drill("Restore a cluster")
    digest = DIGEST.search(imported)[0]
    assert DIGEST.findall(verified) == [digest] * 2  # of both gateways
    await served.send("inbox", "a change")
    _, changed = await members.call("verify")
    assert digest not in {one["digest"] for one in changed["gateways"]}
    assert await texts(served) == ["kept", "a change"]


async def test_a_lost_log(served, members, drill):
    assert (await members.call("snapshot"))[0] == 0
    await members.stop("one")
    await (await members.asker()).jetstream().delete_stream("MQ9")
    with pytest.raises(InvalidRequest, match="was removed"):
        await members.start("one")
    await drill("Lost log")
    await members.start("one")
    assert await texts(served) == ["kept"]


async def test_all_servers_lost(served, members, drill, tmp_path):
    await members.stop("one")
    server = members.servers.servers[0]
    server.kill()
    shutil.rmtree(members.servers.store(0))
    server.start()
    [digest] = await drill("All NATS servers lost")
    assert digest
    [imported] = await drill("All NATS servers lost")
    await members.start("one")
    _, verified = await members.call("verify")
    assert [one["digest"] for one in verified["gateways"]] == DIGEST.findall(imported)
    assert await texts(await members.client()) == ["kept"]


async def test_a_purged_log(served, members, drill):
    await (await members.asker()).jetstream().purge_stream("MQ9")
    with pytest.raises(Unreachable, match="it was purged"):
        await members.start("two")
    await drill("Purged log")
    await members.start("two")
    await members.stop("one")
    assert await texts(served) == ["kept"]


async def test_a_full_log(served, members, drill):
    limit = 6_000_000
    await members.limit_log(limit)

    async def is_refused():
        try:
            await served.send("inbox", bytes(100_000))
        except LimitReached:
            return True
        return False

    await until(is_refused)
    await drill("Full log")

    async def is_sent():
        return not await is_refused()

    await until(is_sent)


async def test_a_lost_majority(tmp_path, monkeypatch):
    async with AsyncExitStack() as stack:
        members = Members(tmp_path, stack, 3)
        monkeypatch.setenv("MQ9_SERVER", members.url)
        one = await members.start("one")
        client = await members.inbox()
        await client.send("inbox", "kept")
        others = members.servers.servers[1:]
        for server in others:
            server.kill()
        await until(lambda: one.backend.silent_s > 1)
        for server in others:
            server.start()
        await until(lambda: one.backend.silent_s < 1, seconds=60)
        for line in DRILLS["Lost majority"][0].splitlines():
            _, *words = shlex.split(line)
            done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--timeout", "30"])
            assert done.exit_code == 0, (line, done.output)
        assert await texts(client) == ["kept"]


async def test_users(drill, tmp_path):
    await drill("Users and certificates")
    assert "Bob" in (tmp_path / "users.toml").read_text()
    assert "Ada" not in (tmp_path / "users.toml").read_text()


def test_there_is_a_test_of_each_drill():
    tested = set(re.findall(r'drill\("(.+?)"\)|DRILLS\["(.+?)"\]\[0\]', Path(__file__).read_text()))
    assert {one or other for one, other in tested} == set(DRILLS)
