"""What a model says of the messages that it fetched: done, given back, or still at work."""

import asyncio
import gc

import pytest

from mq9.operations.leases import DeliveryMemory, FetchedFrom

from .tool_calls import (
    ado,
    answer,
    asend,
    begin,
    bodies,
    do,
    fail,
    fetch,
    fetch_all,
    held,
    ids,
    not_renewed,
    run_in,
    send,
    within,
)


@pytest.fixture
def inbox(planner, worker):
    """The planner's mailbox, with three messages."""
    fetch(planner)
    for letter in "abc":
        send(worker, letter)
    return "planner"


@pytest.fixture
def replies(planner, worker):
    """Another mailbox of the planner's, with an answer in it."""
    address = do(planner, "create_mailbox")["mail_address"]
    send(worker, "an answer", address)
    return address


def ack(toolkit, msg_id, **arguments):
    return do(toolkit, "ack_messages", msg_id=msg_id, **arguments)


def test_an_ack_confirms_the_named_messages_alone_and_may_be_repeated(planner, inbox):
    fetch(planner)

    for _ in range(2):
        assert ack(planner, 2) == {"mail_address": "planner", "acked": [2]}
    assert held(fetch(planner)) == [0, 1]
    assert ack(planner, [1, 0, 1])["acked"] == [1, 0]
    assert fetch(planner)["empty"] == "no mail waits"


def test_through_confirms_those_before_it_in_the_same_result_too(planner, worker):
    for priority in ("normal", "critical", "normal"):
        send(worker, "x", "worker", priority=priority)
    assert ids(fetch(worker)) == [1, 0, 2]

    assert ack(worker, 0, through=True)["acked"] == [1, 0]
    assert held(fetch(worker)) == [2]


def test_an_ack_finds_the_mailbox_by_what_was_fetched(planner, inbox, replies):
    assert bodies(fetch(planner, mail_address=replies)) == ["an answer"]

    assert ack(planner, 0) == {"mail_address": replies, "acked": [0], "your_unread": UNREAD}
    assert bodies(fetch(planner)) == ["a", "b", "c"]


UNREAD = "3 unread: call fetch_messages"


def test_an_id_that_was_fetched_from_two_mailboxes_is_to_be_named(planner, inbox, replies):
    fetch(planner)
    fetch(planner, mail_address=replies)

    assert fail(planner, "ack_messages", msg_id=0) == (
        f"mail_address: you fetched 0 from {replies} and planner; say from which. "
        "Correct that argument and call again."
    )
    assert ids(fetch_all(planner)) == [0, 1, 2]
    assert ids(fetch_all(planner, mail_address=replies)) == [0]
    assert ack(planner, 0, mail_address=replies)["acked"] == [0]
    assert ack(planner, 0, mail_address="planner")["acked"] == [0]


def test_an_id_of_a_mailbox_acked_long_ago_is_still_to_be_named(planner, inbox, replies):
    """The ack may be a repetition of the first, whose answer was lost."""
    fetch(planner)
    ack(planner, 0)
    fetch(planner, mail_address=replies)

    assert "say from which" in fail(planner, "ack_messages", msg_id=0)


def test_messages_of_two_mailboxes_take_two_calls(planner, worker, inbox, replies):
    send(worker, "d", priority="urgent")
    fetch(planner, limit=1)
    fetch(planner, mail_address=replies)

    assert fail(planner, "ack_messages", msg_id=[0, 3]).startswith(
        f"msg_id: 0 was fetched from {replies} and 3 from planner; call once for each."
    )
    assert held(fetch(planner, limit=1)) == [3]
    assert held(fetch(planner, mail_address=replies)) == [0]


def test_two_groups_of_one_mailbox_are_told_apart(planner, inbox):
    fetch(planner, limit=1)
    fetch(planner, group_name="audit")

    assert fail(planner, "ack_messages", msg_id=0).startswith(
        "group_name: you fetched 0 by 2 groups; say by which"
    )
    assert ack(planner, 1)["acked"] == [1]
    assert ack(planner, 0, group_name="audit")["acked"] == [0]
    assert held(fetch(planner)) == [0]
    assert held(fetch(planner, group_name="audit")) == [2]


def test_what_was_never_fetched_is_refused_with_what_to_do(planner, inbox):
    fetch(planner, limit=1)

    told = fail(planner, "ack_messages", msg_id=[0, 2])

    assert told.startswith(
        "message not found: you have not fetched 2 here; fetch_messages gives what waits. If it "
        "was fetched before this program was restarted, give its mail_address."
    )
    assert held(fetch(planner, limit=1)) == [0]


@pytest.mark.parametrize("outcome", ["done", "give_back", "more_time"])
def test_what_another_consumer_holds_is_said_with_how_long(open_toolkit, worker, outcome):
    before, after = open_toolkit("planner"), open_toolkit("planner")
    fetch(before)
    send(worker, "a")
    assert ids(within("one", before, "fetch_messages", wait_seconds=0)) == [0]
    held = (
        "another consumer holds it until 2027-01-15T08:01:00Z, perhaps this program before it "
        "was restarted. Wait until then and fetch it again; query_messages shows it meanwhile"
    )

    told = fail(after, "ack_messages", msg_id=0, outcome=outcome)
    assert held in told
    assert "give its mail_address" in told
    said = answer(after, "ack_messages", msg_id=0, outcome=outcome, mail_address="planner")
    assert held in said.content


def test_with_the_mailbox_the_broker_decides(planner, inbox):
    fetch(planner, limit=1)

    told = fail(planner, "ack_messages", msg_id=2, mail_address="planner")

    assert told.startswith("message not found: 2 was not delivered to group planner")
    said = ack(planner, [0, 2], mail_address="planner")
    assert said["acked"] == [0]
    assert list(said["lost"]) == ["2"]
    assert "was not delivered" in said["lost"]["2"]


def test_an_ack_counts_after_a_restart_in_the_same_thread(open_toolkit, worker):
    before, after = open_toolkit("planner"), open_toolkit("planner")
    do(before, "agent_discover")
    send(worker, "x")
    within("t", before, "fetch_messages", wait_seconds=0)
    before.close()

    refused = answer(after, "ack_messages", config=run_in("another"), msg_id=0)
    assert "give its mail_address" in refused.content
    assert within("t", after, "ack_messages", msg_id=0)["acked"] == [0]
    said = within("t", after, "ack_messages", msg_id=0, mail_address="planner")
    assert said["acked"] == [0]


def test_what_one_thread_fetched_is_unknown_to_another(planner, inbox, replies):
    within("one", planner, "fetch_messages", wait_seconds=0)
    within("two", planner, "fetch_messages", wait_seconds=0, mail_address=replies)
    two = {"config": run_in("two")}

    assert within("two", planner, "ack_messages", msg_id=0)["mail_address"] == replies
    assert within("one", planner, "ack_messages", msg_id=0)["mail_address"] == "planner"
    refused = answer(planner, "ack_messages", msg_id=1, **two)
    assert "you have not fetched 1 here" in refused.content
    refused = answer(planner, "ack_messages", msg_id=1, mail_address="planner", **two)
    assert refused.content.startswith("message not found: 1 was delivered to another consumer.")


@not_renewed
async def test_what_others_have_by_now_is_lost_and_the_rest_confirmed(broker, planner, inbox):
    within("slow", planner, "fetch_messages", wait_seconds=0)
    await broker.clock.advance(60)
    within("fast", planner, "fetch_messages", wait_seconds=0, limit=2)

    said = within("slow", planner, "ack_messages", msg_id=[0, 1, 2])

    assert said["acked"] == [2]
    assert said["lost"] == dict.fromkeys("01", "another consumer has it now")
    assert within("fast", planner, "ack_messages", msg_id=[0, 1])["acked"] == [0, 1]


def test_what_is_confirmed_already_or_deleted_is_told_so(planner, inbox):
    fetch(planner)
    ack(planner, 1, through=True)
    do(planner, "delete_message", mail_address="planner", msg_id=2)

    said = ack(planner, [0, 2])

    assert said["acked"] == []
    assert said["lost"] == {"0": "confirmed already", "2": "no longer stored: deleted"}


def test_what_is_given_back_goes_to_others_at_once(planner, inbox):
    within("one", planner, "fetch_messages", wait_seconds=0)

    said = within("one", planner, "ack_messages", msg_id=[0, 2], outcome="give_back")

    assert said == {
        "mail_address": "planner",
        "given_back": [0, 2],
        "your_unread": "2 unread: call fetch_messages",
    }
    assert ids(within("two", planner, "fetch_messages", wait_seconds=0)) == [0, 2]
    again = within("one", planner, "ack_messages", msg_id=[0, 1], outcome="give_back")
    assert again["given_back"] == [1]
    assert again["lost"] == {"0": "another consumer has it now"}


async def test_what_is_given_back_may_wait(broker, planner, inbox):
    await ado(planner, "fetch_messages", wait_seconds=0)

    await ado(planner, "ack_messages", msg_id=1, through=True, outcome="give_back", seconds=30)

    assert (await ado(planner, "fetch_messages", wait_seconds=0))["messages"] == []
    await broker.clock.advance(30)
    assert ids(await ado(planner, "fetch_messages", wait_seconds=0)) == [0, 1]


@not_renewed
async def test_more_time_keeps_messages_and_says_until_when(broker, planner, inbox):
    await ado(planner, "fetch_messages", wait_seconds=0)
    await broker.clock.advance(50)

    said = await ado(planner, "ack_messages", msg_id=1, through=True, outcome="more_time")

    assert said["extended"] == [0, 1]
    assert said["leased_seconds"] == 60
    assert said["leased_until"] == "2027-01-15T08:01:50Z"
    await broker.clock.advance(20)
    late = await ado(planner, "ack_messages", msg_id=[0, 2], outcome="more_time", seconds=600)
    assert (late["extended"], late["leased_seconds"]) == ([0], 600)
    assert late["lost"] == {"2": "your lease has ended, and it will be delivered again"}


@pytest.mark.parametrize("outcome", ["give_back", "more_time"])
def test_what_came_before_is_not_guessed_after_a_restart(open_toolkit, planner, inbox, outcome):
    fetch(planner)

    told = fail(
        open_toolkit("planner"),
        "ack_messages",
        msg_id=1,
        through=True,
        mail_address="planner",
        outcome=outcome,
    )

    assert told.startswith("through: what was fetched before 1 is not known here")


async def test_new_mail_is_waited_for_while_old_is_held(broker, planner, worker, inbox):
    await ado(planner, "fetch_messages", wait_seconds=0)
    waiting = await begin(broker, ado(planner, "fetch_messages", wait_seconds=30))
    await broker.clock.advance(10)
    assert not waiting.done()

    await asend(worker, "news")

    assert bodies(await waiting) == ["news"]
    all_of_it = await ado(planner, "fetch_messages", wait_seconds=0, include_held=True)
    assert bodies(all_of_it) == ["a", "b", "c", "news"]
    assert [one["already_yours"] for one in all_of_it["messages"]] == [True] * 4


async def test_parallel_calls_ack_each_their_own(planner, worker):
    await ado(worker, "agent_discover")
    for number in range(20):
        await asend(planner, str(number), "worker")
    fetched = await asyncio.gather(
        *(ado(worker, "fetch_messages", wait_seconds=0, limit=1) for _ in range(20))
    )
    taken = [number for one in fetched for number in ids(one)]
    assert sorted(taken) == list(range(20))

    said = await asyncio.gather(*(ado(worker, "ack_messages", msg_id=one) for one in taken))

    assert [one["acked"] for one in said] == [[number] for number in taken]


def test_the_memory_of_what_was_fetched_is_bounded():
    memory = DeliveryMemory(most=3)
    for number in range(5):
        memory.of("a").remember(FetchedFrom(f"box.{number}", "g", "c", "1-1", (0, 1)))
    memory.of("b").remember(FetchedFrom("box.9", "g", "c", "1-2", (7,)))

    def places(scope, msg_id):
        return [one.mail_address for one in memory.of(scope).find(msg_id)]

    assert (places("a", 0), places("a", 1), places("b", 7)) == (["box.4"], ["box.4"], ["box.9"])
    assert (places("b", 0), places("a", 7)) == ([], [])
    # Nor is anything else of the forgotten kept.
    kept = [one.mail_address for one in gc.get_objects() if isinstance(one, FetchedFrom)]
    assert sorted(one for one in kept if one.startswith("box.")) == ["box.4", "box.9"]
