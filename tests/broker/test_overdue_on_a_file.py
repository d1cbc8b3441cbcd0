"""On a file that nobody has open, askers are told of overdue answers when it is next used."""

import pytest
from calls import Engine, call

from mq9 import Promise
from mq9.engine.commands import Sweep
from mq9.protocol.requests import CreateMailbox, DropMailbox
from mq9.testing import FakeBroker

START = 1_800_000_000
SOON = START + 60


@pytest.fixture
async def left(path):
    """A file with two questions; whoever took the second on has promised more, and died."""
    async with FakeBroker(start=START, path=path) as broker, broker.client() as client:
        for name in ("asker", "worker"):
            await client.mailbox_create(name=name)
        for correlation_id in "qr":
            options = {"correlation_id": correlation_id, "answer_by": SOON, "tell_overdue": True}
            await client.send("worker", "?", sender="asker", reply_to="asker", **options)
        await client.fetch("worker", group_name="worker", lease_ms=5_000)
        promise = Promise(until=SOON + 600, done="half")
        await client.extend("worker", "worker", [1], lease_ms=5_000, promise=promise)
    return path


@pytest.mark.parametrize("days", [0, 400])
async def test_each_is_told_once_when_the_file_is_used_again(left, days):
    now = START + days * 86_400
    for _ in range(3):  # nobody has had it open since
        async with FakeBroker(start=now + 61, path=left) as broker, broker.client() as client:
            found = await client.fetch("asker", max_wait_ms=0)
            assert [one.json()["correlation_id"] for one in found] == (
                ["q", "r"] if days else ["q"]
            )
            assert [one.create_time for one in found][:1] == [SOON]
    async with FakeBroker(start=now + 660, path=left) as broker, broker.client() as client:
        found = await client.fetch("asker", max_wait_ms=0)
        assert [one.create_time for one in found] == [SOON, SOON + 600]
        assert found[1].json()["promise"] == {"until": SOON + 600, "done": "half"}


async def test_an_answer_ends_the_wait_after_the_file_was_closed(left):
    async with FakeBroker(start=START + 30, path=left) as broker, broker.client() as client:
        for correlation_id in "qr":
            await client.send("asker", "!", sender="worker", correlation_id=correlation_id)
        await broker.clock.advance(86_400)
        assert [one.text for one in await client.fetch("asker")] == ["!", "!"]


@pytest.fixture
def engine():
    """An engine with a question that somebody awaits an answer to."""
    with Engine() as engine:
        for address in ("box", "asker"):
            engine.apply(call(CreateMailbox, address, token=address))
        options = {"answer_by": engine.now // 1000 + 60, "tell_overdue": True}
        engine.send(reply_to="asker", correlation_id="q", **options)
        yield engine


def test_what_is_awaited_goes_with_the_mailbox_of_the_answer(engine):
    assert engine.count("awaited") == 1
    engine.apply(call(DropMailbox, "asker"))
    assert engine.count("awaited") == 0


def test_a_sweep_tells_in_mailboxes_that_nobody_touches(engine):
    assert engine.apply(call(Sweep)) == 0
    engine.now += 60_000
    assert engine.apply(call(Sweep)) == 1
    assert (engine.count("awaited"), engine.count("messages", "overdue")) == (0, 1)
    assert engine.apply(call(Sweep)) == 0
