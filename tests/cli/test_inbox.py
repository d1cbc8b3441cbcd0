"""inbox, reply: people see what they are asked, and answer it without copying ids."""

import re
import sys

import pytest
from hosted import running, url_for

from cli.conftest import call
from mq9 import Mq9Client
from mq9.questions import TAG, Action, MailedQuestion
from mq9.server.users import User, Users

SEND = Action(name="send_email", args={"to": "ada"}, text="Send it?")
DROP = Action(name="drop_table", args={}, text="Drop it?", decisions=("approve", "reject"))
NO_ADA = Action(name="send_email", args={})
PLAIN = MailedQuestion(text="Which\ncolour?", value={"ask": "colour"})


@pytest.fixture
def mq9(mq9):
    for name in ("boss", "lawyer.answers"):
        mq9.ok("create", name)
    return mq9


def ask(program, *questions, tags=(TAG,), **options):
    """Mail questions to the boss."""

    async def send(client):
        for number, question in enumerate(questions):
            body = question.to_json() if isinstance(question, MailedQuestion) else question
            await client.send(
                "boss",
                body,
                tags=tags,
                sender="lawyer",
                reply_to="lawyer.answers",
                correlation_id=f"q{number}",
                **options,
            )

    program.sdk(send)


def answers(program):
    """What the lawyer was answered: correlation id, sender and body."""

    async def look(client):
        found = await client.query("lawyer.answers")
        return [(one.correlation_id, one.sender, one.payload) for one in found]

    return program.sdk(look)


def listed(program):
    return [one["msg_id"] for one in program("inbox", "boss", "--json").document["questions"]]


def test_open_questions_are_listed_with_what_may_be_answered(mq9):
    problem = MailedQuestion(text="Really?", actions=(SEND, DROP), problem="edit what?")
    ask(mq9, PLAIN, problem, "Is it legal?")

    plain, actions, text = mq9.ok("inbox", "boss").out.rstrip("\n").split("\n\n")
    assert re.fullmatch(
        r"#0  from lawyer \(claimed\)  \d+ m?s ago\n    Which\n    colour\?\n"
        r"    answer: mq9 reply boss 0 TEXT",
        plain,
    )
    assert actions.splitlines()[1:] == [
        "    Really?",
        '    send_email {"to": "ada"}',
        "    drop_table {}",
        "    your answer was not possible: edit what?",
        "    answer: mq9 reply boss 1 approve|edit|reject|respond approve|reject",
    ]
    assert "    Is it legal?\n" in text

    document = mq9.ok("inbox", "boss", "--json").document
    assert document["mail_address"] == "boss"
    assert document["more"] is False
    [first, second, _] = document["questions"]
    assert first.pop("asked") > 1_700_000_000
    assert first == {
        "msg_id": 0,
        "from": "lawyer",
        "from_verified": False,
        "type": "question",
        "text": "Which\ncolour?",
        "value": {"ask": "colour"},
        "actions": [],
        "expires": None,
        "reply_to": "lawyer.answers",
        "correlation_id": "q0",
    }
    assert second["problem"] == "edit what?"
    assert [one["decisions"] for one in second["actions"]][1] == ["approve", "reject"]


def test_what_is_no_question_is_not_listed_and_stays_when_it_is_answered(mq9):
    ask(mq9, "Only mail.", tags=())
    done = mq9("inbox", "boss")
    assert (done.code, done.out, done.err) == (
        0,
        "",
        "boss has no open questions. 1 other message waiting: mq9 query boss\n",
    )
    assert mq9("inbox", "boss", "--json").document["questions"] == []
    mq9.ok("reply", "boss", 0, "Thanks.")
    assert answers(mq9) == [("q0", "boss", b"Thanks.")]
    assert mq9.ok("query", "boss", "--msg-id", 0)
    done = mq9("inbox")  # without an agent in the URL
    assert (done.code, "address: missing" in done.err) == (2, True)


def test_what_an_agent_has_acked_by_its_tools_is_not_listed(mq9):
    ask(mq9, PLAIN, PLAIN)
    mq9.ok("fetch", "boss", "--group", "boss", "--num", 1)
    assert listed(mq9) == [0, 1]
    mq9.ok("ack", "boss", "boss", 0)
    assert listed(mq9) == [1]


def test_a_text_answers_a_plain_question_which_leaves_the_inbox(mq9):
    ask(mq9, PLAIN, PLAIN)
    done = mq9.ok("reply", "boss", 1, "deep blue")
    assert done.out == "answered message 1 of boss, to lawyer.answers\n"
    assert answers(mq9) == [("q1", "boss", b"deep blue")]
    assert listed(mq9) == [0]
    done = mq9.ok("reply", "boss", 0, "-", "--from", "Boss", "--json", stdin=b'{"rgb": 7}')
    assert done.document == {
        "mail_address": "boss",
        "msg_id": 0,
        "reply_to": "lawyer.answers",
        "answered_as": 1,
    }
    assert answers(mq9)[1] == ("q0", "Boss", b'{"rgb": 7}')
    assert mq9.ok("inbox", "boss").out == ""


EDITED = b'{"type":"edit","edited_action":{"name":"send_email","args":{"to":"bob"}}}'


@pytest.mark.parametrize(
    ("actions", "words", "decisions"),
    [
        ([SEND], ["approve"], b'{"type":"approve"}'),
        ([SEND], ["reject"], b'{"type":"reject"}'),
        ([SEND], ["reject", "--message", "no"], b'{"type":"reject","message":"no"}'),
        ([SEND], ["respond", "--message", "7"], b'{"type":"respond","message":"7"}'),
        ([SEND], ["edit", "--args", '{"to":"bob"}'], EDITED),
        ([SEND, DROP], ["approve"], b'{"type":"approve"},{"type":"approve"}'),
        ([SEND, DROP], ["approve", "reject"], b'{"type":"approve"},{"type":"reject"}'),
        (
            [SEND, DROP, SEND],
            ["edit", "reject", "edit", "--args", '{"to":"bob"}', "--args", '{"to":"bob"}'],
            EDITED + b',{"type":"reject"},' + EDITED,
        ),
    ],
)
def test_actions_are_decided_by_words(mq9, actions, words, decisions):
    ask(mq9, MailedQuestion(text="?", actions=tuple(actions)))
    mq9.ok("reply", "boss", 0, *words)
    assert answers(mq9) == [("q0", "boss", b'{"decisions":[%s]}' % decisions)]
    assert listed(mq9) == []


@pytest.mark.parametrize(
    ("actions", "words", "complaint"),
    [
        ([DROP], ["edit"], "answer: drop_table: 'edit' is not possible here; answer approve or"),
        ([DROP], ["yes"], "answer: drop_table: 'yes' is not possible here"),
        ([SEND], ["edit"], "args: give the new arguments of send_email"),
        ([SEND], ["edit", "--args", "{"], "args: '{' is no JSON"),
        ([SEND], ["edit", "--args", "[]"], "args: '[]' is no JSON object"),
        (
            [SEND],
            ["edit", "--args", '{"too": "bob"}'],
            "it has no argument 'too' and it lacks the argument 'to'; it takes 'to'",
        ),
        ([SEND], ["approve", "--args", "{}"], "args: 1 object more than there are edits"),
        ([SEND], ["approve", "--message", "x"], "message: only reject and respond have one"),
        ([SEND], ["respond"], "answer: send_email: respond takes a message"),
        ([SEND, DROP], ["approve"] * 3, "answer: 3 decisions came for 2 actions"),
        ([SEND, SEND], ["edit", "--args", "{}"], "answer: edit cannot be said of 2 actions"),
        ([], ["deep", "blue"], "answer: 2 words were given; put the answer in quotes"),
        ([], ["blue", "--message", "x"], "answer: the question has no actions"),
        ([], ["edit", "--args", "{}"], "answer: the question has no actions"),
    ],
)
def test_what_the_question_does_not_allow_is_not_sent(mq9, actions, words, complaint):
    ask(mq9, MailedQuestion(text="?", actions=tuple(actions)))
    done = mq9("reply", "boss", 0, *words)
    assert done.code == 2
    assert complaint in done.err
    assert answers(mq9) == []
    assert listed(mq9) == [0]


@pytest.fixture
def at_a_terminal(monkeypatch):
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True)


@pytest.fixture
def editor(tmp_path):
    """An editor that puts bob in the place of ada, if it is to succeed."""
    program = tmp_path / "editor.py"
    program.write_text(
        "import pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "text = file.read_text()\n"
        "file.write_text(text.replace('ada', 'bob'))\n"
        "sys.exit('ada' not in text)\n"
    )
    return f"'{sys.executable}' '{program}'"


@pytest.mark.programs
@pytest.mark.usefixtures("at_a_terminal")
def test_at_a_terminal_an_edit_is_made_in_an_editor_unless_that_fails(mq9, editor):
    ask(mq9, *(MailedQuestion(text="?", actions=(one,)) for one in (SEND, NO_ADA)))
    mq9.ok("reply", "boss", 0, "edit", env={"VISUAL": editor})
    edited = [("q0", "boss", b'{"decisions":[%s]}' % EDITED)]
    assert answers(mq9) == edited
    done = mq9("reply", "boss", 1, "edit", env={"VISUAL": "", "EDITOR": editor, "NO_COLOR": "1"})
    assert done.code == 2
    assert done.err.startswith("error: the editor ")
    assert answers(mq9) == edited


@pytest.mark.parametrize("before", [0, 1])
def test_a_first_question_is_waited_for(timed, before):
    timed.ok("create", "boss")
    for _ in range(before):
        timed.ok("send", "boss", "Only mail.")

    async def ask_later(client):
        await client.send("boss", "Only mail.", delay=10)
        await client.send("boss", PLAIN.to_json(), tags=[TAG], delay=20)

    timed.sdk(ask_later)
    assert timed.ok("inbox", "boss", "--wait", 15).out == ""
    assert len(timed.ok("inbox", "boss", "--wait", 15, "--json").document["questions"]) == 1


def test_a_question_that_has_expired_is_neither_listed_nor_answered(timed):
    timed.ok("create", "boss")
    timed.ok("create", "lawyer.answers")

    async def ask_for_a_minute(client):
        expires = client.clock.now_ms() // 1000 + 60
        question = MailedQuestion(text="?", expires=expires).to_json()
        await client.send("boss", question, tags=[TAG], reply_to="lawyer.answers")

    timed.sdk(ask_for_a_minute)
    assert "in 60 s" in timed.ok("inbox", "boss").out
    timed.pass_time(60)
    assert timed.ok("inbox", "boss").out == ""
    done = timed("reply", "boss", 0, "blue")
    assert (done.code, "the question has expired at 20" in done.err) == (2, True)
    assert answers(timed) == []


def test_an_answer_that_is_repeated_is_stored_once_and_another_is_refused(mq9, monkeypatch):
    """As after a crash between the answer and the removal of the question."""
    ask(mq9, PLAIN)

    async def keep(*_):
        """The program ends here."""

    with monkeypatch.context() as patch:
        patch.setattr(Mq9Client, "delete", keep)
        mq9.ok("reply", "boss", 0, "blue")
    refused = mq9("reply", "boss", 0, "red")
    assert (refused.code, "id" in refused.err) == (1, True)
    mq9.ok("reply", "boss", 0, "blue")
    assert answers(mq9) == [("q0", "boss", b"blue")]
    assert listed(mq9) == []


def test_what_cannot_be_answered_stays(mq9):
    assert mq9("reply", "boss", 7, "x").code == 4

    async def ask_nobody(client):
        await client.send("boss", "?", tags=[TAG])
        await client.send("boss", "?", tags=[TAG], reply_to="nobody")

    mq9.sdk(ask_nobody)
    done = mq9("reply", "boss", 0, "x")
    assert (done.code, done.err) == (2, "error: reply_to: message 0 does not say where to answer\n")
    done = mq9("reply", "boss", 1, "x")
    assert (done.code, done.err == 'error: mailbox "nobody" does not exist\n') == (1, True)
    assert listed(mq9) == [0, 1]


async def test_an_agent_of_a_server_sees_its_own_inbox_and_answers_as_itself():
    guard = Users([User("b", agent="The-Boss"), User("l", agent="Lawyer")])
    async with running(guard=guard) as server, Mq9Client(url_for(server, "l")) as lawyer:
        boss = url_for(server, "b")
        await call(boss, "create", "the.boss")
        await lawyer.mailbox_create(name="lawyer.answers")
        await lawyer.send("the.boss", "?", tags=[TAG], reply_to="lawyer.answers")

        shown = await call(boss, "inbox")
        assert "#0  from Lawyer (verified)  " in shown.out
        done = await call(boss, "reply", "the.boss", 0, "yes", "--from", "Somebody")
        assert done.code == 0, done.err
        [answer] = await lawyer.query("lawyer.answers")
        assert (answer.sender, answer.sender_verified) == ("The-Boss", True)


def test_an_inbox_that_is_not_there_yet_is_waited_for(timed):
    done = timed("inbox", "late", "--wait", 30)
    assert done.code == 1
    for said in (
        "mailbox late does not exist yet; waiting 10 s for it. Create it: mq9 create late",
        'mailbox "late" does not exist, after 10 s. Create it: mq9 create late',
    ):
        assert said in done.err

    done = timed("inbox", "late")
    assert done.code == 1
    assert "does not exist. Create it: mq9 create late" in done.err
    assert "waiting" not in done.err
