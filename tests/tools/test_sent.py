"""What an agent sent, and what became of it; and what it takes back."""

import pytest

from .tool_calls import ado, begin, do, fail, fetch, ids, send

pytestmark = pytest.mark.unmeasured


def sent(toolkit, **arguments):
    return do(toolkit, "query_messages", sent=True, **arguments)


async def test_what_was_sent_is_listed_with_its_state_newest_first(broker, planner, worker):
    first = send(planner, "one", "worker")
    await broker.clock.advance(1)
    second = send(planner, "two", "worker")
    await broker.clock.advance(1)
    third = send(planner, "three", "worker", delay=60)
    fetch(worker, limit=1)
    fetch(worker)
    do(worker, "ack_messages", msg_id=0)

    said = sent(planner)["sent"]

    assert [(one["correlation_id"], one["state"]) for one in said] == [
        (third["correlation_id"], "delayed"),
        (second["correlation_id"], "fetched"),
        (first["correlation_id"], "acked"),
    ]
    assert [one["mail_address"] for one in said] == ["worker"] * 3
    assert said[0]["delayed_id"] == third["delayed_id"]
    assert {"until", "msg_id"} - said[0].keys() == {"msg_id"}
    assert "until" in said[1]


def test_an_answer_is_found_by_the_question(planner, worker):
    question = send(planner, "How far?", "worker")
    fetch(worker)
    answer = do(worker, "send_message", reply_to_msg=0, content="42 km")

    [one] = sent(planner, correlation_ids=[question["correlation_id"]])["sent"]

    assert (one["state"], one["answered_at"], one["answered_by"]) == (
        "acked",
        "planner",
        answer["msg_id"],
    )


def test_an_agent_that_was_restarted_sees_what_it_has_answered(planner, worker, open_toolkit):
    question = send(planner, "How far?", "worker")
    fetch(worker)
    do(worker, "send_message", reply_to_msg=0, content="42 km")

    said = sent(open_toolkit("worker"), correlation_ids=[question["correlation_id"], "unheard-of"])

    assert [(one["mail_address"], one["state"]) for one in said["sent"]] == [("planner", "waiting")]
    assert said["not_found"] == ["unheard-of"]


def test_others_do_not_see_it(planner, worker):
    question = send(planner, "How far?", "worker")

    assert sent(worker, correlation_ids=[question["correlation_id"]])["sent"] == []


def test_only_some_arguments_go_with_it(planner):
    assert "with sent only correlation_ids and limit choose" in fail(
        planner, "query_messages", sent=True, key="k"
    )


def test_the_result_of_a_send_says_what_it_replaced_and_who_reads(planner, worker, open_toolkit):
    do(worker, "agent_register", capabilities="Works")
    first = send(planner, "at 10 %", "worker", key="load")
    second = send(planner, "at 20 %", "worker", key="load")

    assert "replaced" not in first
    assert second["replaced"] == first["msg_id"]
    assert second["reader"] == {"registered": True}
    do(planner, "create_mailbox", name="nobody.reads")
    assert send(planner, "x", "nobody.reads")["reader"] == {"registered": False}


async def test_a_reader_that_was_not_seen_for_an_hour_is_stale(broker, planner, worker):
    do(worker, "agent_register", capabilities="Works")
    await broker.clock.advance(3_600)

    assert send(planner, "x", "worker")["reader"] == {"registered": True, "stale": True}


def test_a_delayed_message_is_taken_back_by_its_sender(planner, worker):
    said = send(planner, "later", "worker", delay=60)
    assert "msg_id" not in said

    taken = do(planner, "delete_message", mail_address="worker", delayed_id=said["delayed_id"])

    assert taken["taken_back"] == said["delayed_id"]
    assert sent(planner)["sent"] == []
    again = fail(planner, "delete_message", mail_address="worker", delayed_id=said["delayed_id"])
    assert "message not found" in again


def test_the_delayed_message_of_another_stays(planner, worker, open_toolkit):
    said = send(planner, "later", "worker", delay=60)
    stranger = open_toolkit("stranger")

    refused = fail(stranger, "delete_message", mail_address="worker", delayed_id=said["delayed_id"])

    assert "message not found" in refused
    assert [one["state"] for one in sent(planner)["sent"]] == ["delayed"]


@pytest.mark.parametrize("named", [{}, {"msg_id": 0, "delayed_id": 1}])
def test_one_message_is_named(planner, named):
    refused = fail(planner, "delete_message", mail_address="planner", **named)
    assert refused.startswith("msg_id: name one message, by its msg_id or its delayed_id")


def test_messages_are_told_apart_by_their_state(planner):
    for text in ("a", "b", "c"):
        send(planner, text)
    fetch(planner, limit=1)
    do(planner, "ack_messages", msg_id=0)
    fetch(planner, limit=1)

    said = do(planner, "query_messages")["messages"]

    assert [one["state"] for one in said] == ["acked", "held by you for 3600 s more", "new"]
    for state, expected in {"new": [2], "held": [1], "acked": [0]}.items():
        assert ids(do(planner, "query_messages", state=state)) == expected


def test_a_page_that_was_cut_says_why_and_how_to_go_on(planner):
    for text in ("a" * 300, "b" * 300, "c" * 300):
        send(planner, text)

    newest = do(planner, "query_messages", limit=2)
    assert ids(newest) == [1, 2]
    assert newest["more"] == ("the newest 2; older ones match as well: call again with before_id=1")
    assert ids(do(planner, "query_messages", before_id=1)) == [0]
    cut = do(planner, "query_messages", max_chars=400)
    assert cut["more"].startswith("cut by max_chars; older ones match as well: call again with ")


async def test_a_query_waits_for_answers_and_takes_nothing(broker, planner):
    await ado(planner, "agent_discover")
    looking = await begin(
        broker,
        ado(planner, "query_messages", correlation_ids=["q-1"], wait_seconds=30),
    )
    async with broker.client() as client:
        await client.send("planner", "42", correlation_id="q-1")

    said = await looking

    assert (ids(said), said["messages"][0]["state"]) == ([0], "new")
