"""Answers, and what is said of what was sent."""

import json

import pytest
from pydantic import ValidationError

from .tool_calls import bodies, do, envelopes, fail, fetch, held, ids, send


@pytest.fixture
def asked(inbox, worker):
    """A worker that holds a question of the planner."""
    do(worker, "agent_register", capabilities="Works")
    sent = send(inbox, "Where?", "worker", correlation_id="q-1")
    assert ids(fetch(worker)) == [sent["msg_id"]]
    return worker


def test_one_call_answers_a_message_and_acks_it(planner, asked):
    sent = do(asked, "send_message", reply_to_msg=0, content="Here.")

    assert sent == {"mail_address": "planner", "msg_id": 0, "correlation_id": "q-1", "acked": 0}
    answers = fetch(planner)
    assert bodies(answers) == ["Here."]
    assert envelopes(answers)[0]["correlation_id"] == "q-1"
    assert fetch(asked)["empty"] == "no mail waits"


def test_an_answer_may_go_elsewhere(planner, asked):
    do(asked, "create_mailbox", name="worker.other")
    sent = do(asked, "send_message", reply_to_msg=0, to="worker.other", content="Here.")

    assert (sent["mail_address"], sent["acked"]) == ("worker.other", 0)
    assert fetch(planner)["messages"] == []


def test_the_same_answer_is_sent_once_and_another_is_refused(planner, asked):
    first = do(asked, "send_message", reply_to_msg=0, content="Here.")

    assert do(asked, "send_message", reply_to_msg=0, content="Here.") == first
    told = fail(asked, "send_message", reply_to_msg=0, content="There.")
    assert told.startswith("content: an answer to this message has been sent planner another text")
    assert bodies(fetch(planner)) == ["Here."]


def test_what_asks_for_no_answer_is_answered_only_where_that_is_said(anyone, worker):
    do(worker, "create_mailbox", name="worker.other")
    do(worker, "agent_register", capabilities="Works")
    send(anyone, "Just so.", "worker")
    fetch(worker)

    told = fail(worker, "send_message", reply_to_msg=0, content="Thanks.")
    assert told.startswith("reply_to_msg: message 0 names no mailbox for an answer")
    assert held(fetch(worker)) == [0]
    assert (
        do(worker, "send_message", reply_to_msg=0, to="worker.other", content="Thanks.")["acked"]
        == 0
    )


def test_only_what_is_held_can_be_answered(worker):
    told = fail(worker, "send_message", reply_to_msg=7, content="What?")

    assert "you have not fetched 7 here" in told


def test_a_message_that_was_removed_cannot_be_answered_by_its_id(asked, planner):
    do(asked, "delete_message", mail_address="worker", msg_id=0, confirm_address="worker")

    told = fail(asked, "send_message", reply_to_msg=0, content="Here.")
    assert told.startswith("reply_to_msg: 0 is no longer stored in worker")


def test_somebody_has_to_be_named(planner):
    told = fail(planner, "send_message", content="Hello?")

    assert told.startswith("to: say where to send, or name in reply_to_msg what you answer")


def test_a_correlation_id_is_made_up_for_each_question(inbox):
    first, second = send(inbox, "One?"), send(inbox, "Two?")

    assert first["correlation_id"] != second["correlation_id"]
    assert [one["correlation_id"] for one in envelopes(fetch(inbox))] == [
        first["correlation_id"],
        second["correlation_id"],
    ]


def test_a_message_to_who_has_asked_can_be_waited_for_as_well(planner, asked):
    sent = send(asked, "Which one do you mean?", "planner")
    [asking] = ids(fetch(planner))
    do(planner, "send_message", reply_to_msg=asking, content="The second.")

    [listed] = do(asked, "query_messages", sent=True)["sent"]
    assert (listed["correlation_id"], listed["state"]) == (sent["correlation_id"], "acked")
    assert fetch(asked, answers_to=[sent["correlation_id"]])["answers"] == {
        sent["correlation_id"]: 1
    }


def test_what_was_only_read_is_confirmed_as_such(planner, asked):
    assert do(asked, "ack_messages", msg_id=0, outcome="read") == {
        "mail_address": "worker",
        "acked": [0],
        "outcome": "read",
    }
    assert fetch(asked)["empty"] == "no mail waits"


def test_names_of_the_last_release_are_understood(planner, asked):
    sent = do(asked, "send_message", mail_address="planner", content="Here.")

    assert sent["mail_address"] == "planner"
    assert ids(fetch(planner, num_msgs=1)) == [0]
    with pytest.raises(ValidationError, match="num_msgs"):
        do(planner, "fetch_messages", num_msgs=1, limit=1)


def test_schemas_name_the_arguments_of_today_alone(planner):
    shown = {
        one.name: json.dumps(one.args_schema.model_json_schema()) for one in planner.get_tools()
    }

    assert "num_msgs" not in shown["fetch_messages"]
    assert "group_name" not in shown["fetch_messages"] + shown["ack_messages"]


def test_a_reply_to_an_answer_is_a_question_of_its_own(planner, asked):
    do(asked, "send_message", reply_to_msg=0, content="Which one?")
    do(planner, "agent_register", capabilities="Plans")
    question = send(planner, "Is it done?", "worker")["correlation_id"]
    [held_id] = ids(fetch(asked))
    do(asked, "send_message", reply_to_msg=held_id, content="Not yet.")
    answer = next(
        one
        for one in fetch(planner)["messages"]
        if one["untrusted_envelope"]["correlation_id"] == question
    )

    again = do(planner, "send_message", reply_to_msg=answer["msg_id"], content="And now?")

    assert again["correlation_id"] != question
    assert do(planner, "send_message", reply_to_msg=answer["msg_id"], content="And now?") == again
    [held_id] = ids(fetch(asked))
    do(asked, "send_message", reply_to_msg=held_id, content="Yes.")
    [listed] = do(planner, "query_messages", sent=True, correlation_ids=[again["correlation_id"]])[
        "sent"
    ]
    assert "answered_by" in listed
