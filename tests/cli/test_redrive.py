"""redrive: dead letters go back to where they came from, once, however often it is interrupted."""

import asyncio

import pytest

from cli.conftest import Program
from mq9 import Mq9Client, Unavailable
from mq9.cli.output import Output
from mq9.cli.program import CommandCall
from mq9.cli.redrive import redrive
from mq9.protocol.requests import Move
from mq9.testing import FakeBroker, Limits


@pytest.fixture
def mq9(broker):
    program = Program(broker.url)
    for name in ("orders", "bills", "dead"):
        program.ok("create", name)
    return program


def dead_lettered(program, *bodies, mailbox="orders", **options):
    """Let messages fail as often as they may, so that they end in the dead-letter mailbox."""

    async def fail(message):
        raise ValueError(f"{message.text} is no good")

    async def work(client):
        for body in bodies:
            await client.send(mailbox, body, **options)
        done = asyncio.Event()

        def count(event):
            if worker.counters.dead_lettered == len(bodies):
                done.set()

        worker = await client.consume(
            mailbox,
            fail,
            group_name="workers",
            deliver="earliest",
            dead_letter="dead",
            max_deliveries=2,
            retry_delay=0,
            error_handler=lambda *_: None,
            on_event=count,
        )
        async with worker:
            await done.wait()

    program.sdk(work)


def bodies(program, mailbox):
    found = program("query", mailbox, "--json").document["messages"]
    return [message["payload"] for message in found]


def pending(program, mailbox, group="workers"):
    """What a group gets, with how often it got it."""
    found = program(
        "fetch", mailbox, "--group", group, "--deliver", "earliest", "--wait", 0, "--json"
    ).document
    return [(message["payload"], message["delivery_count"]) for message in found["messages"]]


def test_each_message_goes_back_to_where_it_came_from_and_begins_anew(mq9):
    dead_lettered(mq9, "tea", "rice")
    dead_lettered(mq9, "rent", mailbox="bills", priority="urgent")

    done = mq9.ok("redrive", "dead")

    assert done.out.splitlines() == [
        "moved message 2 to bills, as message 1",
        "moved message 0 to orders, as message 2",
        "moved message 1 to orders, as message 3",
        "3 messages moved",
    ]
    assert bodies(mq9, "dead") == []
    assert pending(mq9, "orders") == [("tea", 1), ("rice", 1)]
    assert pending(mq9, "bills") == [("rent", 1)]
    [*_, last] = mq9.ok("query", "orders", "--json").document["messages"]
    assert (last["moved"]["mailbox"], last["moved"]["group"]) == ("dead", "mq9.redrive")

    again = mq9("redrive", "dead")
    assert (again.code, again.out, again.err) == (0, "", "dead has no messages to move\n")


def test_what_fails_again_may_be_redriven_again(mq9):
    for _ in range(3):
        dead_lettered(mq9, *([] if bodies(mq9, "orders") else ["tea"]), "more")
        mq9.ok("redrive", "dead")
    assert bodies(mq9, "dead") == []
    assert len(pending(mq9, "orders")) >= 2
    done = mq9("redrive", "nowhere", "--to", "orders")
    assert (done.code, done.err) == (
        1,
        'error: mailbox "nowhere" does not exist. Create it: mq9 create nowhere\n',
    )


def test_what_says_no_origin_or_has_none_left_stays(mq9):
    dead_lettered(mq9, "tea")
    dead_lettered(mq9, "rent", mailbox="bills")
    mq9.ok("send", "dead", "never moved")
    mq9.ok("drop", "bills", "--yes")

    done = mq9("redrive", "dead")

    assert done.code == 1
    assert done.out.splitlines() == [
        "moved message 0 to orders, as message 1",
        "left message 1: mailbox not found: bills does not exist",
        "left message 2: its first mailbox is unknown: name a target with --to",
        "1 message moved, 2 left",
    ]
    assert bodies(mq9, "dead") == ["rent", "never moved"]
    to = ("--to", "mq9://anywhere/orders")
    assert mq9.ok("redrive", "dead", *to).out.endswith("2 messages moved\n")


def test_a_full_mailbox_takes_nothing_and_nothing_is_lost():
    with FakeBroker(limits=Limits(max_messages=3), autojump=True) as broker:
        mq9 = Program(broker.url)
        for name in ("orders", "bills", "dead"):
            mq9.ok("create", name)
        dead_lettered(mq9, "a", "b", "c")
        for number in range(2):
            mq9.ok("send", "bills", number)
        done = mq9("redrive", "dead", "--to", "bills", "--json")
        assert done.code == 1
        assert [one["msg_id"] for one in done.document["moved"]] == [0]
        assert [one["msg_id"] for one in done.document["left"]] == [1, 2]
        assert "3" in done.document["left"][0]["reason"]
        assert bodies(mq9, "dead") == ["b", "c"]


def test_no_more_than_the_limit_is_moved_and_by_a_dry_run_nothing(mq9):
    dead_lettered(mq9, *"abcde")
    for _ in range(2):
        assert mq9.ok("redrive", "dead", "--dry-run", "--limit", 2).out.splitlines() == [
            "would move message 0 to orders",
            "would move message 1 to orders",
            "2 messages would be moved",
        ]
    assert bodies(mq9, "dead") == [*"abcde"]
    assert pending(mq9, "orders") == []
    assert mq9.ok("redrive", "dead", "--limit", 2).out.endswith("2 messages moved\n")
    assert bodies(mq9, "dead") == ["c", "d", "e"]
    assert mq9.ok("redrive", "dead").out.endswith("3 messages moved\n")
    assert [body for body, _ in pending(mq9, "orders")] == [*"abcde"]


def test_one_message_may_be_named(mq9):
    dead_lettered(mq9, *"abc")
    done = mq9.ok("redrive", "dead", "--msg-id", 1, "--json")
    assert done.document == {
        "mail_address": "dead",
        "dry_run": False,
        "moved": [{"msg_id": 1, "to": "orders", "moved_as": 3}],
        "left": [],
    }
    assert bodies(mq9, "dead") == ["a", "c"]
    assert mq9("redrive", "dead", "--msg-id", 1).code == 4
    assert mq9.ok("redrive", "dead").out.endswith("2 messages moved\n")


def test_more_than_one_fetch_holds_are_moved(mq9):
    async def fill(client):
        for number in range(250):
            await client.send("dead", f"{number}")

    mq9.sdk(fill)
    assert len(mq9.ok("redrive", "dead", "--to", "orders", "--json").document["moved"]) == 250
    assert bodies(mq9, "dead") == []


@pytest.mark.parametrize("executed", [True, False])
def test_wherever_it_is_interrupted_a_repeat_moves_the_rest_once(broker, executed):
    """From some request on the broker is away; what it was asked last may have been done."""
    carry_out = broker.carry_out
    for away_after in range(30):
        program = Program(broker.url)
        for name in ("orders", "dead"):
            program("drop", name, "--yes")
            program.ok("create", name)
        dead_lettered(program, *"abc")
        left = away_after

        async def failing(request):
            nonlocal left
            left -= 1
            if left < 0 and (left < -1 or not executed):
                raise Unavailable("the broker is away")
            reply = await carry_out(request)
            if left < 0:
                raise Unavailable("the reply was lost")
            return reply

        broker.carry_out = failing
        interrupted = program("redrive", "dead")
        broker.carry_out = carry_out
        for _ in range(2):
            program("redrive", "dead")
        asyncio.run(broker.clock.advance(60))
        program("redrive", "dead")
        assert [body for body, _ in pending(program, "orders")] == [*"abc"], away_after
        if interrupted.code == 0:
            break
    else:
        pytest.fail("it was interrupted each time")
    assert away_after > 5


async def test_a_cancelled_redrive_gives_back_what_it_held(broker):
    mq9 = Program(broker.url)
    async with Mq9Client(broker.url) as client:
        for name in ("orders", "dead"):
            await client.mailbox_create(name=name)
        for body in "abc":
            await client.send("dead", body)
        carry_out, moving = broker.carry_out, asyncio.Event()

        async def stuck(request):
            if isinstance(request.body, Move):
                moving.set()
                await asyncio.Event().wait()
            return await carry_out(request)

        broker.carry_out = stuck
        call = CommandCall(mq9.url, 5.0, Output(as_json=True))
        options = {"to": "orders", "limit": None, "msg_id": None, "dry_run": False}
        running = asyncio.create_task(redrive(call, address="dead", **options))
        await moving.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        broker.carry_out = carry_out
        status = await client.mailbox_status("dead", group_name="mq9.redrive")
        assert (status.group.leased, status.group.pending.total) == ((), 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["Dead Letters"], "invalid mail_address"),
        (["dead", "--to", "Or Ders"], "invalid mail_address"),
        (["dead", "--to", "dead"], "to: dead is the mailbox itself"),
        (["dead", "--limit", 0], "--limit"),
        (["dead", "--msg-id", -1], "--msg-id"),
    ],
)
def test_what_cannot_be_redriven_is_refused(mq9, options, told):
    done = mq9("redrive", *options)
    assert done.code == 2
    assert told in done.err


def test_why_tells_where_a_dead_letter_went_and_where_it_came_from(mq9):
    dead_lettered(mq9, "cursed")

    went = mq9.ok("why", "orders", 0).out.splitlines()[-1]
    assert went.startswith("Group workers: moved to dead, as message 0 at 20")
    assert "after 2 deliveries to group workers: " in went
    assert went.endswith("ValueError: cursed is no good.")
    came = mq9.ok("why", "dead", 0).out.splitlines()[1]
    assert came.startswith("It is a copy of message 0 in orders, moved here at 20")
    assert came.endswith("ValueError: cursed is no good.")
    shown = mq9.ok("status", "orders", "--group", "workers").out
    assert "acked       0\n" in shown
    assert "moved away  1\n" in shown

    mq9.ok("redrive", "dead")
    again = mq9.ok("why", "orders", 1).out.splitlines()[1]
    assert again.startswith("It is a copy of message 0 in dead, moved here at 20")
    assert again.endswith("after 1 delivery to group mq9.redrive: redriven.")
    assert mq9.ok("why", "orders", 0).out.splitlines()[-1] == went
    shown = mq9.ok("status", "dead").out
    assert "removed  1 (0 expired, 0 replaced, 1 deleted, 0 evicted)\n" in shown
