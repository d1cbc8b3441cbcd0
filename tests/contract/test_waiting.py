"""The long poll: woken at the right instant, and no lease for a waiter that has gone away."""

import asyncio

import pytest

from mq9 import InvalidRequest, MailboxNotFound, NoReply

from .reading import START, bodies, ids, send_all


@pytest.fixture
async def begin(way):
    """Start a fetch; its task has `came_at`, the second on the clock at which it returned."""
    tasks = []

    async def begin_fetch(client, inbox, **options):
        options.setdefault("max_wait_ms", 60_000)
        came_at = []

        async def fetch():
            fetched = await client.fetch(inbox, **options)
            came_at.append(way.clock.now_ms() / 1000 - START)
            return fetched

        task = await way.begin(fetch())
        task.came_at = came_at
        tasks.append(task)
        return task

    yield begin_fetch
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("group", [{}, {"group_name": "g"}])
async def test_a_send_wakes_whoever_waits_at_once(way, client, inbox, begin, group):
    waiting = await begin(client, inbox, **group)
    await way.clock.advance(12)
    await client.send(inbox, "news")
    await way.clock.advance(5)

    assert bodies(await waiting) == ["news"]
    assert waiting.came_at == [12]


@pytest.mark.parametrize("group", [{}, {"group_name": "g"}])
async def test_a_message_that_falls_due_wakes_at_its_own_instant(way, client, inbox, begin, group):
    await client.send(inbox, "due", delay=30)
    waiting = await begin(client, inbox, **group)

    await way.clock.advance(100)

    [message] = await waiting
    assert (message.text, message.create_time) == ("due", START + 30)
    assert waiting.came_at == [30]


async def test_a_message_sent_with_a_delay_during_the_wait_wakes_when_due(
    way, client, inbox, begin
):
    waiting = await begin(client, inbox, group_name="g")
    await way.clock.advance(3)
    await client.send(inbox, "due", delay=4)
    await way.clock.advance(100)

    assert bodies(await waiting) == ["due"]
    assert waiting.came_at == [7]


# What the holder of a lease of 10 s does a second later, and when another is given the message.
HOLDS = {
    "dies": (lambda one, box: one.close(), 10),
    "gives it back for later": (lambda one, box: one.nack(box, "g", 0, delay_ms=2_500), 3.5),
    "shortens it": (lambda one, box: one.extend(box, "g", [0], lease_ms=2_000), 3),
    "shortens it by a fetch": (lambda one, box: one.fetch(box, group_name="g", lease_ms=2_000), 3),
    "extends it": (lambda one, box: one.extend(box, "g", [0], lease_ms=30_000), 31),
}


@pytest.mark.parametrize("holder", HOLDS)
async def test_the_end_of_a_lease_wakes_at_its_own_instant(way, inbox, begin, holder):
    act, came_at = HOLDS[holder]
    one, two = await way.client(), await way.client()
    await one.send(inbox, "task")
    await one.fetch(inbox, group_name="g", deliver="earliest", lease_ms=10_000)
    waiting = await begin(two, inbox, group_name="g")
    await way.clock.advance(1)
    await act(one, inbox)
    await way.clock.advance(100)

    assert bodies(await waiting) == ["task"]
    assert waiting.came_at == [came_at]
    assert waiting.result().lease_until == START + came_at + 60


async def test_a_reset_frees_what_a_waiter_may_then_have(way, inbox, begin):
    one, two, three = [await way.client() for _ in range(3)]
    await send_all(one, inbox, "a", "b")
    await one.fetch(inbox, group_name="g", deliver="earliest")
    waiting = await begin(two, inbox, group_name="g")
    await three.fetch(inbox, group_name="g", deliver="earliest", force_deliver=True, num_msgs=1)
    await way.clock.advance(5)

    assert bodies(await waiting) == ["b"]
    assert waiting.came_at == [0]


async def test_the_wait_ends_exactly_at_its_end(way, client, inbox, begin):
    waiting = await begin(client, inbox, group_name="g", max_wait_ms=1_500)
    await way.clock.advance(1.499)
    assert not waiting.done()
    await way.clock.advance(10)

    assert await waiting == []
    assert waiting.came_at == [1.5]


async def test_what_falls_due_as_the_wait_ends_is_returned(way, client, inbox, begin):
    await client.send(inbox, "due", delay=5)
    waiting = await begin(client, inbox, group_name="g", max_wait_ms=5_000)
    await way.clock.advance(100)

    assert bodies(await waiting) == ["due"]


async def test_what_is_there_is_returned_without_waiting(way, client, inbox, begin):
    await client.send(inbox, "x")
    waiting = await begin(client, inbox, deliver="earliest")

    assert waiting.done()
    assert waiting.came_at == [0]


async def test_news_elsewhere_and_in_other_groups_wakes_nobody_for_nothing(
    way, client, inbox, begin
):
    other = await client.mailbox_create(name="other")
    waiting = await begin(client, inbox, group_name="g", max_wait_ms=10_000)
    await client.send(other, "x")
    await client.fetch(inbox, group_name="h", max_wait_ms=0)
    await way.clock.advance(9)
    assert not waiting.done()
    await way.clock.advance(1)
    assert await waiting == []


async def test_of_several_that_wait_one_gets_a_task_and_every_group_its_copy(way, inbox, begin):
    clients = [await way.client() for _ in range(3)]
    waiting = [await begin(client, inbox, group_name="g", num_msgs=1) for client in clients]
    apart = await begin(clients[0], inbox, group_name="h")
    aside = await begin(clients[0], inbox)
    await clients[0].send(inbox, "task")
    await way.clock.advance(1)

    assert sorted(len(task.result()) for task in waiting if task.done()) == [1]
    assert bodies(await apart) == bodies(await aside) == ["task"]
    await clients[0].send(inbox, "second")
    await clients[0].send(inbox, "third")
    await way.clock.advance(1)
    got = [text for fetched in await asyncio.gather(*waiting) for text in bodies(fetched)]
    assert sorted(got) == ["second", "task", "third"]


async def test_a_stateless_new_is_what_arrives_during_the_wait(way, client, inbox, begin):
    await client.send(inbox, "before")
    waiting = await begin(client, inbox, deliver="new")
    await way.clock.advance(1)
    assert not waiting.done()
    await send_all(client, inbox, "during", "more")
    await way.clock.advance(1)

    assert bodies(await waiting)[0] == "during"
    assert await client.fetch(inbox, deliver="new", max_wait_ms=0) == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_mailbox_made_anew_during_the_wait_is_not_the_one_waited_for(
    way, client, inbox, begin, at_once
):
    waiting = await begin(client, inbox, group_name="g")
    await client.mailbox_drop(inbox)
    if not at_once:
        await way.clock.advance(0)
    await client.mailbox_create(name=inbox)
    if not at_once:
        await client.send(inbox, "x")
    await way.clock.advance(1)

    assert waiting.done()
    with pytest.raises(MailboxNotFound):
        await waiting


async def _nobody_holds(way, inbox, group="g"):
    status = await (await way.client()).mailbox_status(inbox, group_name=group)
    return status.group.leased == ()


async def test_a_fetch_cancelled_while_it_waits_takes_no_lease(way, client, inbox, begin):
    waiting = await begin(client, inbox, group_name="g", deliver="earliest")
    waiting.cancel()
    await way.clock.advance(0)
    assert waiting.cancelled()

    await client.send(inbox, "task")
    await way.clock.advance(0)

    assert await _nobody_holds(way, inbox)
    [message] = await (await way.client()).fetch(inbox, group_name="g", max_wait_ms=0)
    assert message.delivery_count == 1


@pytest.mark.parametrize("turns", range(8))
async def test_a_fetch_cancelled_as_it_is_woken_takes_no_lease(way, client, inbox, begin, turns):
    waiting = await begin(client, inbox, group_name="g", deliver="earliest")
    await client.send(inbox, "task")
    for _ in range(turns):
        await asyncio.sleep(0)
    gone = waiting.cancel()
    await way.clock.advance(0)

    other = await way.client()
    if gone and waiting.cancelled():
        assert await _nobody_holds(way, inbox)
        [message] = await other.fetch(inbox, group_name="g", max_wait_ms=0)
        assert message.delivery_count == 1
    else:
        assert bodies(await waiting) == ["task"]
        assert await other.fetch(inbox, group_name="g", max_wait_ms=0) == []


@pytest.mark.parametrize("turns", range(8))
async def test_a_fetch_cancelled_as_it_begins_takes_no_lease(way, client, inbox, turns):
    await send_all(client, inbox, "a", "b")
    await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=1, consumer="other")
    task = asyncio.create_task(client.fetch(inbox, group_name="g", num_msgs=1))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await way.clock.advance(0)

    other = await way.client()
    got = await other.fetch(inbox, group_name="g", max_wait_ms=0)
    if task.cancelled():
        assert [(message.text, message.delivery_count) for message in got] == [("b", 1)]
    else:
        assert bodies(await task) == ["b"]
        assert got == []


async def test_a_fetch_cancelled_as_a_lease_ends_takes_no_lease(way, inbox, begin):
    dead, gone, alive = [await way.client() for _ in range(3)]
    await dead.send(inbox, "task")
    await dead.fetch(inbox, group_name="g", deliver="earliest", lease_ms=10_000)
    waiting = await begin(gone, inbox, group_name="g")
    way.clock.call_later(10_000, waiting.cancel)
    await way.clock.advance(10)

    assert waiting.cancelled()
    [message] = await alive.fetch(inbox, group_name="g", max_wait_ms=0)
    assert message.delivery_count == 2


@pytest.mark.parametrize("turns", range(6))
async def test_a_fetch_cancelled_while_its_unread_mail_is_counted_takes_no_lease(
    way, client, inbox, turns
):
    await client.send(inbox, "task")
    with client.watch_unread(inbox, "g"):
        task = asyncio.create_task(client.fetch(inbox, group_name="g", deliver="earliest"))
    while not way.state()["replies"]:  # noqa: ASYNC110  # its threads tell nobody
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await way.clock.advance(0)

    got = await (await way.client()).fetch(inbox, group_name="g", max_wait_ms=0)
    if task.cancelled():
        assert [(message.text, message.delivery_count) for message in got] == [("task", 1)]
    else:
        assert bodies(await task) == ["task"]
        assert got == []


async def test_a_fetch_that_times_out_takes_no_lease(way, client, inbox):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=60_000)
    await client.send(inbox, "task")
    await way.clock.advance(0)

    assert await _nobody_holds(way, inbox)


async def test_cancelling_a_refetch_leaves_what_the_consumer_held(way, client, inbox):
    await client.send(inbox, "mine")
    await client.fetch(inbox, group_name="g", deliver="earliest")
    task = asyncio.create_task(client.fetch(inbox, group_name="g"))
    await asyncio.sleep(0)
    task.cancel()
    await way.clock.advance(0)

    [lease] = (await client.mailbox_status(inbox, group_name="g")).group.leased
    assert (lease.consumer, lease.count) == (client.consumer, 1)


async def test_cancelled_fetches_among_others_lose_and_double_nothing(way, client, inbox):
    workers = [await way.client() for _ in range(4)]
    await client.fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=0)
    await send_all(client, inbox, *map(str, range(40)))
    done = []
    for turn in range(60):
        worker = workers[turn % 4]
        task = asyncio.create_task(
            worker.fetch(inbox, group_name="g", num_msgs=3, max_wait_ms=0, redeliver_own=False)
        )
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        if turn % 2:
            task.cancel()
        try:
            batch = await task
        except asyncio.CancelledError:
            continue
        if batch:
            done += await worker.ack(inbox, "g", batch[-1].msg_id)

    assert sorted(done) == list(range(40))


async def test_a_waiter_is_given_what_a_cancelled_fetch_gave_back(way, inbox, begin):
    clients = [await way.client(), await way.client()]
    await clients[0].fetch(inbox, group_name="g", deliver="earliest", max_wait_ms=0)
    waiting = [await begin(client, inbox, group_name="g") for client in clients]
    await clients[0].send(inbox, "task")
    while not (given := way.state()["replies"]):  # noqa: ASYNC110  # its threads tell nobody
        await asyncio.sleep(0)
    waiting[0 if clients[0].consumer in given[0] else 1].cancel()
    await way.clock.advance(0)

    answered = [task for task in waiting if task.done() and not task.cancelled()]
    assert [bodies(task.result()) for task in answered] == [["task"]]


async def test_a_repeated_request_id_gets_the_same_batch_and_is_told_whether_there_is_more(
    way, client, inbox
):
    await send_all(client, inbox, "a", "b")
    body = {
        "group_name": "g",
        "deliver": "earliest",
        "request_id": "r1",
        "config": {"consumer": "c", "num_msgs": 1, "max_wait_ms": 0},
    }
    first = await way.ask(f"MSG.FETCH.{inbox}", body)
    assert (first["more"], first["lease_until"]) == (True, START + 60)
    assert [item["delivery_count"] for item in first["messages"]] == [1]
    await way.clock.advance(5)

    assert await way.ask(f"MSG.FETCH.{inbox}", body) == first
    await client.delete(inbox, 1)
    del first["more"]
    assert await way.ask(f"MSG.FETCH.{inbox}", body) == first
    other = await way.ask(f"MSG.FETCH.{inbox}", {**body, "request_id": "r2"})
    assert [item["delivery_count"] for item in other["messages"]] == [2]


async def test_a_repeated_request_id_gets_what_is_still_held_and_then_is_a_new_fetch(
    way, client, inbox
):
    await send_all(client, inbox, "a", "b")
    body = {
        "group_name": "g",
        "deliver": "earliest",
        "force_deliver": True,
        "request_id": "r1",
        "config": {"consumer": "c", "max_wait_ms": 0},
    }
    first = await way.ask(f"MSG.FETCH.{inbox}", body)
    await client.ack(inbox, "g", 0, consumer="c", batch=first["batch"])

    held = await way.ask(f"MSG.FETCH.{inbox}", body)
    assert [item["msg_id"] for item in held["messages"]] == [1]
    assert held["batch"] == first["batch"]

    await client.ack(inbox, "g", 1, consumer="c", batch=first["batch"])
    assert (await way.ask(f"MSG.FETCH.{inbox}", body))["messages"] == []
    await client.send(inbox, "c")
    new = await way.ask(f"MSG.FETCH.{inbox}", body)
    assert [item["msg_id"] for item in new["messages"]] == [2]


async def test_a_request_id_belongs_to_its_consumer_and_group(way, client, inbox):
    await send_all(client, inbox, "a", "b")
    body = {"group_name": "g", "deliver": "earliest", "request_id": "r"}
    one = {"consumer": "one", "num_msgs": 1, "max_wait_ms": 0}
    first = await way.ask(f"MSG.FETCH.{inbox}", {**body, "config": one})
    second = await way.ask(f"MSG.FETCH.{inbox}", {**body, "config": {**one, "consumer": "two"}})
    third = await way.ask(f"MSG.FETCH.{inbox}", {**body, "group_name": "h", "config": one})

    assert [reply["messages"][0]["msg_id"] for reply in (first, second, third)] == [0, 1, 0]


async def test_waiting_says_why_there_is_nothing(way, inbox):
    one, two = await way.client(), await way.client()
    await one.send(inbox, "before")
    await one.fetch(inbox, group_name="g", deliver="new", max_wait_ms=0)
    await send_all(one, inbox, "acked", "held", "held too", "given back")
    await one.send(inbox, "due", delay=100)
    await one.send(inbox, "due later", delay=200)
    await one.fetch(inbox, group_name="g", lease_ms=30_000)
    await one.ack(inbox, "g", 1)
    await one.nack(inbox, "g", 4, delay_ms=45_000)

    nothing = await two.fetch(inbox, group_name="g", max_wait_ms=0)

    waiting = nothing.waiting
    assert nothing.batch is nothing.lease_until is None
    assert (waiting.stored, waiting.delayed, waiting.next_due) == (5, 2, START + 100)
    assert (waiting.acked, waiting.skipped) == (1, 1)
    assert [(held.consumer, held.count, held.until - START) for held in waiting.leased] == [
        (one.consumer, 2, 30),
        (None, 1, 45),
    ]


async def test_waiting_for_a_stateless_read_says_what_is_there(client, inbox):
    await send_all(client, inbox, "a", "b")

    waiting = (await client.fetch(inbox, deliver="new", max_wait_ms=0)).waiting

    assert (waiting.stored, waiting.skipped, waiting.delayed, waiting.acked) == (2, 2, 0, 0)
    assert waiting.leased == ()
    assert waiting.next_due is None
    assert (await client.fetch(inbox, deliver="earliest")).waiting is None


async def test_closing_the_client_of_one_waiter_leaves_the_others(way, inbox, begin):
    one, two = await way.client(), await way.client()
    waiting = await begin(two, inbox, group_name="g")
    await one.close()
    sender = await way.client()
    await sender.send(inbox, "x")
    await way.clock.advance(0)

    assert ids(await waiting) == [0]


@pytest.mark.parametrize(("group", "step"), [({}, 86_400), ({"group_name": "g"}, 1)])
async def test_a_wait_ends_in_time_when_the_wall_clock_steps_back(
    way, client, inbox, begin, group, step
):
    waiting = await begin(client, inbox, max_wait_ms=5_000, **group)
    await way.clock.advance(2)
    way.clock.set_back(step)
    await way.clock.advance(2.999)
    assert not waiting.done()
    await way.clock.advance(0.001)

    assert await waiting == []


async def test_what_is_due_is_a_tenth_late_at_most_when_the_wall_clock_steps_back(
    way, client, inbox, begin
):
    """A gateway of a cluster learns of it when it asks the log, and is not late."""
    await client.send(inbox, "due", delay=9)
    waiting = await begin(client, inbox, group_name="g", max_wait_ms=60_000)
    way.clock.set_back(3_600)
    await way.clock.advance(8.999)
    assert not waiting.done()
    await way.clock.advance(1.001)

    [message] = await waiting
    assert message.payload == b"due"
    assert way.clock.now_ms() < message.create_time * 1000


async def test_a_question_ends_in_time_when_the_wall_clock_steps_back(way, client, inbox):
    asking = await way.begin(client.request(inbox, "anybody?", timeout=30))
    await way.clock.advance(10)
    way.clock.set_back(3_600)
    await way.clock.advance(20)

    with pytest.raises(NoReply):
        await asking


LATER = {"group_name": "g", "deliver": "earliest", "num_msgs": 4}


@pytest.mark.parametrize(
    ("options", "sent_at", "received"),
    [
        ({"linger_ms": 5_000}, [10, 12, 14, 16], (15, ["10", "12", "14"])),
        ({"linger_ms": 5_000}, [10, 11, 12, 13, 14], (13, ["10", "11", "12", "13"])),
        ({"min_msgs": 3}, [10, 20, 30, 40], (30, ["10", "20", "30"])),
        ({"min_msgs": 2, "linger_ms": 5_000}, [10, 20, 22, 30], (25, ["10", "20", "22"])),
        ({"min_msgs": 3}, [10, 50], (60, ["10", "50"])),
        ({"min_msgs": 2, "linger_ms": 30_000}, [10, 50, 52], (60, ["10", "50", "52"])),
        ({"min_msgs": 3, "linger_ms": 5_000}, [], (60, [])),
    ],
)
async def test_a_fetch_collects(way, client, inbox, begin, options, sent_at, received):
    waiting = await begin(client, inbox, **LATER, **options)
    for second in sent_at:
        await way.clock.advance(second - (way.clock.now_ms() / 1000 - START))
        await client.send(inbox, str(second))
    await way.clock.advance(100)

    fetched = await waiting
    assert (*waiting.came_at, bodies(fetched)) == received
    assert (fetched.waiting is None) == bool(fetched)


async def test_what_came_first_is_no_reason_to_put_urgent_mail_last(way, client, inbox, begin):
    waiting = await begin(client, inbox, **LATER, linger_ms=500)
    await client.send(inbox, "whenever")
    await client.send(inbox, "now", priority="critical")
    await way.clock.advance(1)

    assert bodies(await waiting) == ["now", "whenever"]


async def test_who_collects_holds_nothing_meanwhile_and_waits_on_when_it_is_taken(
    way, client, inbox, begin
):
    other = await way.client()
    collecting = await begin(client, inbox, **LATER, min_msgs=2, linger_ms=5_000)
    plain = await begin(other, inbox, group_name="g")
    await client.send(inbox, "a")
    await way.clock.advance(1)
    assert bodies(await plain) == ["a"]

    await send_all(client, inbox, "b", "c")
    await way.clock.advance(1)
    taken = {"group_name": "g", "max_wait_ms": 0, "redeliver_own": False, "num_msgs": 1}
    assert bodies(await other.fetch(inbox, **taken)) == ["b"]
    await way.clock.advance(10)
    await client.send(inbox, "d")
    await way.clock.advance(5)
    assert bodies(await collecting) == ["c", "d"]


async def test_a_collecting_fetch_that_is_cancelled_leaves_everything(way, client, inbox, begin):
    collecting = await begin(client, inbox, **LATER, min_msgs=2)
    await client.send(inbox, "a")
    await way.clock.advance(1)
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)

    other = await way.client()
    assert bodies(await other.fetch(inbox, group_name="g", max_wait_ms=0)) == ["a"]


async def test_without_a_wait_nothing_is_collected(client, inbox):
    await client.send(inbox, "a")

    fetched = await client.fetch(inbox, **LATER, max_wait_ms=0, min_msgs=3, linger_ms=60_000)

    assert bodies(fetched) == ["a"]


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"group_name": "g", "num_msgs": 2, "min_msgs": 3}, "min_msgs: 3 is more than num_msgs 2"),
        ({"min_msgs": 2}, "min_msgs: a read without a group does not collect"),
        ({"linger_ms": 2}, "min_msgs: a read without a group does not collect"),
    ],
)
async def test_what_does_not_go_with_collecting(client, inbox, options, refusal):
    with pytest.raises(InvalidRequest, match=refusal):
        await client.fetch(inbox, **options)
