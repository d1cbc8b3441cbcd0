"""Questions as JSON, and which answers fit them."""

import orjson
import pytest

from mq9.questions import Action, InvalidAnswer, MailedQuestion, answer_of, decisions_of

SEND = Action(name="send_email", args={"to": "ada"}, decisions=("approve", "edit", "reject"))
DROP = Action(name="drop_table", args={}, text="Really?", decisions=("approve", "reject"))
PAY = Action(
    name="pay",
    args={"euros": 7},
    schema={"properties": {"euros": {}, "to": {}}, "required": ["euros"]},
)
LOG = Action(name="log", args={}, schema={"properties": {}, "additionalProperties": True})
ASK = Action(name="ask_user", args={}, decisions=("respond",))
EDITED = {"type": "edit", "edited_action": {"name": "send_email", "args": {"to": "bob"}}}


@pytest.mark.parametrize(
    "question",
    [
        MailedQuestion(text="May I?"),
        MailedQuestion(text="May I?", value={"a": [1]}, expires=1_700_000_000, problem="No."),
        MailedQuestion(text="Really?", actions=(SEND, DROP, PAY)),
        MailedQuestion(text="How many?", schema={"type": "integer"}),
    ],
)
def test_a_question_is_read_as_it_was_written(question):
    assert MailedQuestion.from_payload(orjson.dumps(question.to_json())) == question


def test_what_is_not_in_our_format_asks_what_it_says():
    wrong = ['"text": 1', '"text": "x", "expires": "soon"', '"text": "x", "problem": 1']
    wrong += ['"text": "x", "schema": 1', '"text": "x", "actions": {}']
    actions = ["1", '{"name": "a"}', '{"name": "a", "args": {}, "decisions": 1}']
    actions += ['{"name": "a", "args": {}, "decisions": ["x"]}']
    actions += ['{"name": "a", "args": {}, "schema": 1}']
    wrong += [f'"text": "x", "actions": [{action}]' for action in actions]
    for said in ('{"text": "no type"}', *(f'{{"type": "question", {one}}}' for one in wrong)):
        assert MailedQuestion.from_payload(said.encode()) == MailedQuestion(text=said)
    assert MailedQuestion.from_payload(b"\xff") == MailedQuestion(text="\\xff")


@pytest.mark.parametrize(
    ("payload", "answer"),
    [(b"yes", "yes"), (b'{"a": 1}', {"a": 1}), (b"42", 42), (b'"42"', "42"), (b"", "")],
)
def test_an_answer_is_json_or_else_text(payload, answer):
    assert answer_of(payload) == answer
    with pytest.raises(InvalidAnswer, match="text or JSON, not 2 other bytes"):
        answer_of(b"\xff\xfe")


@pytest.mark.parametrize(
    ("actions", "answer", "decisions"),
    [
        ([SEND], "approve", [{"type": "approve"}]),
        ([SEND], " Accept\n", [{"type": "approve"}]),
        ([SEND], {"type": "approve", "more": 1}, [{"type": "approve"}]),
        ([SEND], {"decisions": [EDITED]}, [EDITED]),
        ([SEND], [EDITED], [EDITED]),
        (
            [SEND],
            {"type": "edit", "args": {"action": "send_email", "args": {"to": "bob"}}},
            [EDITED],
        ),
        ([SEND], {"type": "edit", "edited_action": {"args": {"to": "bob"}}}, [EDITED]),
        ([SEND], {"type": "ignore", "args": None}, [{"type": "reject"}]),
        ([SEND], {"type": "reject", "message": "no"}, [{"type": "reject", "message": "no"}]),
        ([ASK], {"type": "response", "args": "7"}, [{"type": "respond", "message": "7"}]),
        ([SEND, DROP], "approve", [{"type": "approve"}, {"type": "approve"}]),
        ([SEND, DROP], ["approve", "reject"], [{"type": "approve"}, {"type": "reject"}]),
        ([SEND, DROP], [EDITED, {"type": "reject"}], [EDITED, {"type": "reject"}]),
    ],
)
def test_decisions_are_understood_in_each_form(actions, answer, decisions):
    assert decisions_of(actions, answer) == decisions


def edit(action, **args):
    return {"type": "edit", "edited_action": {"name": action.name, "args": args}}


STOP = Action(name="stop", args={})


@pytest.mark.parametrize(
    ("actions", "answer", "complaint"),
    [
        (
            [SEND],
            "Yes!",
            "send_email: 'Yes!' is not possible here; answer approve or",
        ),
        ([SEND], 1, "1 is not a decision; answer approve or edit or reject or respond"),
        ([SEND], None, "None is not a decision"),
        ([SEND], {}, "send_email: {} is not a decision"),
        ([SEND], {"type": ["edit"]}, "is not a decision"),
        ([DROP], EDITED, "drop_table: 'edit' is not possible here; answer approve or reject"),
        ([SEND], {"type": "respond", "message": "x"}, "'respond' is not possible here"),
        ([SEND], {"type": "edit"}, "edit takes an edited_action, which is an object with name"),
        ([SEND], {"type": "edit", "edited_action": {"name": "send_email"}}, "name and args"),
        (
            [SEND],
            edit(DROP),
            "send_email: an edit changes what it is done with and cannot make it 'drop_table'",
        ),
        ([SEND], {"type": "reject", "message": 1}, "reject takes a message, which is a text"),
        ([ASK], {"type": "respond"}, "respond takes a message"),
        ([ASK], "respond", "respond takes a message"),
        ([SEND], {"decisions": "approve"}, "decisions: 'approve' is not a list"),
        ([SEND], [], "0 decisions came for 1 action (send_email)"),
        ([SEND, DROP], ["approve"], "1 decision came for 2 actions (send_email, drop_table)"),
        ([SEND, DROP], EDITED, "drop_table: 'edit' is not possible here"),
        ([SEND, SEND], EDITED, "edit cannot be said of 2 actions at once"),
        ([SEND, DROP], ["approve", "edit"], "drop_table: 'edit' is not possible here"),
        # An edit with other arguments than the action has.
        ([SEND], edit(SEND), "send_email: it lacks the argument 'to'; it takes 'to'"),
        ([SEND], edit(SEND, to="x", cc="y"), "it has no argument 'cc'; it takes 'to'"),
        (
            [SEND],
            edit(SEND, recipient="x", body="y"),
            "send_email: it has no arguments 'body', 'recipient' and it lacks the argument 'to'",
        ),
        ([STOP], edit(STOP, now=1), "stop: it has no argument 'now'; it takes noth"),
        ([PAY], edit(PAY, to="ada"), "pay: it lacks the argument 'euros'; it takes 'euros', 'to'"),
        ([PAY], edit(PAY, euros=1, cents=2), "has no argument 'cents'; it takes 'euros', 'to'"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(actions, answer, complaint):
    with pytest.raises(InvalidAnswer) as refused:
        decisions_of(actions, answer)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("action", "args"),
    [(PAY, {"euros": 8}), (PAY, {"euros": 8, "to": "ada"}), (LOG, {"anything": 1}), (LOG, {})],
)
def test_an_edit_may_have_all_arguments_that_the_schema_allows(action, args):
    [decision] = decisions_of([action], edit(action, **args))
    assert decision["edited_action"]["args"] == args
