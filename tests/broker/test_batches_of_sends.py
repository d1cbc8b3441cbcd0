"""SENDs that wait for the same commit on a file: how they are gathered, ordered and bounded."""

import asyncio

import pytest

from mq9 import LimitReached, MailboxNotFound, Mq9Client
from mq9.engine import send


@pytest.fixture
def steps(monkeypatch):
    """How many SENDs the engine stored together in each step."""
    steps = []
    store = send.send_together

    def store_and_note(db, batches, *args):
        steps.append(sum(len(batch.request.sends) for _, batch in batches))
        return store(db, batches, *args)

    monkeypatch.setattr(send, "send_together", store_and_note)
    return steps


@pytest.fixture(params=["normal", "full"])
async def client(request, tmp_path):
    url = f"sqlite:///{tmp_path}/mq9.db?durability={request.param}"
    async with await Mq9Client.connect(url) as client:
        await client.mailbox_create(name="box")
        yield client


async def test_what_is_sent_at_the_same_time_is_stored_together_in_order(client, steps):
    sent = await asyncio.gather(*(client.send("box", f"{number}") for number in range(200)))
    assert sent == list(range(200))
    assert [one.text for one in await client.query("box", limit=200)] == [*map(str, range(200))]
    assert sum(steps) == 200
    # A batch holds 64; where a thread commits it may take the first before others come.
    assert len(steps) <= 10


async def test_another_request_is_carried_out_in_between(client):
    first, _, late = await asyncio.gather(
        client.send("box", "1"),
        client.mailbox_drop("box"),
        client.send("box", "2"),
        return_exceptions=True,
    )
    assert first == 0
    assert isinstance(late, MailboxNotFound)


@pytest.fixture
async def quick(tmp_path):
    """A client whose event loop commits by itself what was asked for in one turn."""
    async with await Mq9Client.connect(f"sqlite:///{tmp_path}/mq9.db") as client:
        await client.mailbox_create(name="box")
        yield client


async def test_one_that_is_cancelled_before_the_commit_is_not_sent(quick, steps):
    sending = [asyncio.create_task(quick.send("box", f"{number}")) for number in range(8)]
    await asyncio.sleep(0)
    sending[3].cancel()
    answers = await asyncio.gather(*sending, return_exceptions=True)
    assert isinstance(answers.pop(3), asyncio.CancelledError)
    assert answers == list(range(7))
    assert steps == [7]
    assert [one.text for one in await quick.query("box")] == ["0", "1", "2", "4", "5", "6", "7"]


async def test_a_batch_that_nobody_waits_for_any_more_is_nothing(quick, steps):
    sending = [asyncio.create_task(quick.send("box", "")) for _ in range(3)]
    await asyncio.sleep(0)
    for one in sending:
        one.cancel()
    await asyncio.wait(sending)
    assert await quick.send("box", "later") == 0
    assert sum(steps) == 1


async def test_who_has_too_many_in_the_queue_is_refused_and_others_are_not(
    quick, tmp_path, monkeypatch
):
    monkeypatch.setattr("mq9.broker.batches._MOST_SENDING", 5)
    async with await Mq9Client.connect(f"sqlite:///{tmp_path}/mq9.db") as other:
        answers = await asyncio.gather(
            *(quick.send("box", "x") for _ in range(20)),
            other.send("box", "y"),
            return_exceptions=True,
        )
    refused = [type(one) for one in answers if not isinstance(one, int)]
    assert refused == [LimitReached] * 15
    assert isinstance(answers[-1], int)
    assert len(await asyncio.gather(*(quick.send("box", "x") for _ in range(5)))) == 5


async def test_clients_on_several_event_loops_get_their_own_answers(quick):
    async def send_some():
        return await asyncio.gather(*(quick.send("box", "x") for _ in range(50)))

    def on_a_loop_of_its_own():
        return asyncio.run(send_some())

    sent = await asyncio.gather(
        send_some(), *(asyncio.to_thread(on_a_loop_of_its_own) for _ in range(3))
    )
    assert sorted(one for some in sent for one in some) == list(range(200))
    assert all(some == sorted(some) for some in sent)
