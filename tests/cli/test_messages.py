"""send, fetch, ack, query."""

import base64
import json
import shlex

import pytest


def test_a_message_goes_round(mq9, inbox):
    assert mq9.ok("send", inbox, "hello").out == "stored as message 0\n"

    fetched = mq9.ok("fetch", inbox, "--group", "workers", "--deliver", "earliest")
    assert "#0  normal  " in fetched.out
    assert "\n    hello\n" in fetched.out

    [command] = [line.strip() for line in fetched.out.splitlines() if "mq9 ack" in line]
    acked = mq9.ok(*shlex.split(command)[1:])
    assert acked.out == "acked 0\n"
    assert mq9("fetch", inbox, "--group", "workers", "--wait", 0).code == 4


def test_every_option_of_send_reaches_the_reader(mq9, inbox):
    options = ["--priority", "critical", "--key", "k", "--tag", "a", "--tag", "b", "--ttl", 60]
    who = ["--from", "planner", "--reply-to", "planner", "--correlation-id", "q 1", "--id", "one"]
    who += ["--header", "Traceparent: 00-1", "--header", "note:so: so"]
    sent = mq9.ok("send", inbox, "hello", *options, *who, "--json")
    again = mq9.ok("send", inbox, "hello", *options, *who, "--json")
    assert sent.document == {"mail_address": inbox, "msg_id": 0, "delayed": False}
    assert again.document == sent.document

    [message] = mq9.ok("query", inbox, "--json").document["messages"]
    assert message.pop("create_time") > 1_700_000_000
    assert message == {
        "msg_id": 0,
        "payload": "hello",
        "priority": "critical",
        "delivery_count": 0,
        "key": "k",
        "tags": ["a", "b"],
        "from": "planner",
        "reply_to": "planner",
        "correlation_id": "q 1",
        "headers": {"traceparent": "00-1", "note": "so: so"},
    }
    shown = mq9.ok("query", inbox).out
    assert "from planner (claimed)" in shown
    assert "key=k  tags='a,b'  reply-to=planner  correlation-id='q 1'" in shown
    assert "headers  traceparent=00-1  note='so: so'" in shown


def test_a_delayed_message_has_no_id_yet(mq9, inbox):
    sent = mq9.ok("send", inbox, "later", "--delay", 100, "--json")
    assert sent.document == {"mail_address": inbox, "msg_id": -1, "delayed": True}
    assert mq9.ok("send", inbox, "later", "--delay", 100).out.startswith("delayed for 100 s")


@pytest.mark.parametrize("argument", [[], ["-"]])
def test_a_body_may_be_piped_in_byte_for_byte(mq9, inbox, argument):
    body = b"\x00\xff not text\r\n"
    mq9.ok("send", inbox, *argument, stdin=body)

    [message] = mq9.ok("query", inbox, "--json").document["messages"]
    assert message["encoding"] == "base64"
    assert base64.b64decode(message["payload"]) == body
    assert "(13 bytes that are not text, in base64)" in mq9.ok("query", inbox).out


def test_nothing_to_send_on_a_terminal_is_a_mistake(mq9, inbox, monkeypatch):
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True)
    done = mq9("send", inbox, env={"NO_COLOR": "1"})
    assert (done.code, done.err) == (2, "error: body: give it as an argument, or pipe it in\n")


def test_a_body_that_the_shell_gave_as_bytes_stays_so(mq9, inbox):
    body = b"caf\xe9".decode("utf-8", "surrogateescape")
    sent = mq9.ok("send", f"mq9://anywhere/{inbox}", body, "--json")
    assert sent.document["mail_address"] == inbox
    [message] = mq9.ok("query", inbox, "--json").document["messages"]
    assert base64.b64decode(message["payload"]) == b"caf\xe9"


def test_without_a_group_nothing_is_leased(mq9, inbox):
    mq9.ok("send", inbox, "x")
    for _ in range(2):
        found = mq9.ok("fetch", inbox, "--deliver", "earliest", "--json").document
        assert found["group_name"] is None
        assert "batch" not in found
        assert [one["msg_id"] for one in found["messages"]] == [0]


def test_two_calls_are_two_workers_unless_they_say_who_they_are(mq9, inbox):
    for body in "abc":
        mq9.ok("send", inbox, body)
    fetch = ["fetch", inbox, "--group", "g", "--deliver", "earliest", "--num", 1]

    def fetched(*options):
        found = mq9(*fetch, "--json", *options).document
        return [one["msg_id"] for one in found["messages"]], found["more"]

    assert fetched("--consumer", "me") == ([0], True)
    assert "there is more: fetch again" in mq9.ok(*fetch).out
    assert fetched() == ([2], False)
    assert fetched("--wait", 0) == ([], False)
    assert fetched("--consumer", "me") == ([0], False)


def test_a_fetch_in_json_says_what_an_ack_needs(mq9, inbox):
    for body in "ab":
        mq9.ok("send", inbox, body)
    found = mq9.ok("fetch", inbox, "--group", "g", "--deliver", "earliest", "--json").document
    assert found["mail_address"] == inbox
    assert found["group_name"] == "g"
    assert found["more"] is False
    assert found["lease_until"] > 1_700_000_000
    assert [one["delivery_count"] for one in found["messages"]] == [1, 1]

    acked = mq9.ok("ack", inbox, "g", 1, "--batch", found["batch"], "--json").document
    assert acked["mail_address"] == inbox
    assert acked["group_name"] == "g"
    assert sorted(acked["acked"]) == [0, 1]


def test_one_message_can_be_acked_alone_and_only_what_was_fetched(mq9, inbox):
    for body in "ab":
        mq9.ok("send", inbox, body)
    mq9.ok("fetch", inbox, "--group", "g", "--deliver", "earliest")
    assert mq9.ok("ack", inbox, "g", 1, "--individual", "--json").document["acked"] == [1]
    done = mq9("ack", inbox, "g", 5)
    assert done.code == 4
    assert done.err == "error: message not found: 5 was not delivered to group g of inbox\n"


def test_starting_points(mq9, inbox):
    for body in "abc":
        mq9.ok("send", inbox, body)

    def ids(*options):
        found = mq9("fetch", inbox, "--wait", 0, "--json", *options).document
        return [one["msg_id"] for one in found["messages"]]

    assert ids() == [0, 1, 2]
    assert ids("--deliver", "latest") == [2]
    assert ids("--deliver", "new") == []
    assert ids("--deliver", "from_id", "--from-id", 1) == [1, 2]
    assert ids("--deliver", "from_time", "--from-time", "2001-02-03T04:05") == [0, 1, 2]
    assert ids("--deliver", "from_time", "--from-time", 1) == [0, 1, 2]
    assert ids("--group", "g", "--deliver", "new") == []
    assert ids("--group", "g", "--force-deliver", "--deliver", "earliest") == [0, 1, 2]


def test_an_empty_fetch_says_why(timed):
    def why(*options):
        done = timed("fetch", "inbox", "--wait", 0, *options)
        assert done.code == 4
        assert done.out == ""
        return done.err

    assert why() == "nothing to fetch; 0 messages stored\n"
    timed.ok("send", "inbox", "a")
    assert "1 message stored: 1 before this read's start (--deliver earliest shows them)" in why(
        "--deliver", "new"
    )
    timed.ok("fetch", "inbox", "--group", "g", "--deliver", "earliest", "--consumer", "bo b")
    assert "1 leased to 'bo b', until 20" in why("--group", "g")
    assert "(in 60 s)" in why("--group", "g")
    timed.ok("send", "inbox", "b", "--delay", 300)
    assert "1 delayed, the next due 20" in why("--group", "g")

    async def give_back(client):
        await client.nack("inbox", "g", 0, delay_ms=30_000, consumer="bo b")

    timed.sdk(give_back)
    assert "1 given back, available 20" in why("--group", "g")
    timed.pass_time(30)
    timed.ok("fetch", "inbox", "--group", "g")
    timed.ok("ack", "inbox", "g", 0)
    assert "1 acked by g" in why("--group", "g")
    assert "1 before the start of late" in why("--group", "late", "--deliver", "new")


def test_an_empty_fetch_says_why_in_json(mq9, inbox):
    mq9.ok("send", inbox, "x")
    done = mq9("fetch", inbox, "--deliver", "new", "--wait", 0, "--json")
    assert (done.code, done.err, done.document["messages"]) == (4, "", [])
    nothing = {"delayed": 0, "leased": [], "acked": 0, "moved": 0}
    assert done.document["waiting"] == nothing | {"stored": 1, "skipped": 1}


def test_a_query_filters(mq9, inbox):
    mq9.ok("send", inbox, "a", "--tag", "x")
    mq9.ok("send", inbox, "b", "--tag", "x", "--tag", "y", "--key", "k", "--correlation-id", "q")

    def ids(*options):
        return [
            one["msg_id"] for one in mq9("query", inbox, *options, "--json").document["messages"]
        ]

    assert ids() == [0, 1]
    assert ids("--tag", "x", "--tag", "y") == [1]
    assert ids("--key", "k") == [1]
    assert ids("--correlation-id", "q") == [1]
    assert ids("--correlation-id", "r") == []
    assert ids("--msg-id", 0) == [0]
    assert ids("--limit", 1) == [1]
    assert ids("--since", "2001-02-03") == [0, 1]
    assert ids("--since", "2101-02-03") == []
    nothing = mq9("query", inbox, "--key", "other")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no such message is stored\n")


def test_a_message_that_was_moved_says_from_where_by_whom_and_why(timed):
    async def give_up(client):
        await client.mailbox_create(name="dead")
        await client.send("inbox", "x")
        await client.fetch("inbox", group_name="g", deliver="earliest", consumer="ada/1")
        await client.move("inbox", "g", 0, to="dead", reason="no\n\x1b[2J", consumer="ada/1")

    timed.sdk(give_up)
    shown = timed.ok("query", "dead").out
    assert "by ada (claimed) from inbox, message 0, after 1 delivery to group g" in shown
    assert r": no\n\x1b[2J" in shown


def test_a_lease_is_as_long_as_asked_for_and_an_ack_that_comes_too_late_says_so(timed):
    timed.ok("send", "inbox", "x")
    fetch = ("fetch", "inbox", "--group", "g", "--deliver", "earliest")
    assert "to ack it within 2 s:" in timed.ok(*fetch, "--lease", 2.5).out
    timed.pass_time(3)
    slow = timed.ok(*fetch, "--json").document
    timed.pass_time(60)
    assert "delivery 3" in timed.ok("fetch", "inbox", "--group", "g").out

    late = timed("ack", "inbox", "g", 0, "--batch", slow["batch"])
    assert late.code == 4
    assert late.out.startswith("nothing was acked")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["send", "Bad", "x"], "invalid mail_address: 'Bad'"),
        (["send", "inbox", "x", "--priority", "high"], "--priority"),
        (["send", "inbox", "x", "--delay", "-1"], "--delay"),
        (["send", "inbox", "x", "--tag", "a,b"], "tags: 'a,b' has a comma"),
        (["fetch", "inbox", "--num", "0"], "--num"),
        (["fetch", "inbox", "--wait", "61"], "--wait"),
        (["fetch", "inbox", "--wait", "nan"], "wait"),
        (["fetch", "inbox", "--lease", "0.5"], "--lease"),
        (["fetch", "inbox", "--deliver", "from_id"], "from_id"),
        (["fetch", "inbox", "--from-time", "soon"], "from-time: 'soon' is neither Unix seconds"),
        (["send", "inbox", "x", "--header", "a"], "header: 'a' is not 'name: value'"),
        (["send", "inbox", "x", "--header", "a: 1", "--header", "a: 2"], "header: 'a' is repeated"),
        (["send", "inbox", "x", "--header", "a:"], "headers: a: ''"),
        (["query", "inbox", "--since", "9999999-01-01"], "since: '9999999-01-01'"),
        (["ack", "inbox", "g", "-1"], "-1"),
        (["ack", "inbox", "g"], "MSG-ID"),
    ],
)
def test_what_is_wrong_with_an_argument_is_said_in_one_line(mq9, inbox, arguments, complaint):
    done = mq9(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert complaint in done.err
    assert done.err.count("\n") == 1


def test_an_answer_is_wanted_in_seconds_or_by_a_time(timed):
    timed.ok("send", "inbox", "in a minute", "--answer-by", 60)
    timed.ok("send", "inbox", "by then", "--answer-by", "2100-01-01T12:00+00:00")
    found = timed.ok("query", "inbox", "--json").document["messages"]
    now = found[0]["create_time"]
    assert [one["answer_by"] for one in found] == [now + 60, 4_102_488_000]
    assert "answer by 20" in timed.ok("query", "inbox", "--msg-id", 0).out
    done = timed("send", "inbox", "x", "--answer-by", "soon")
    assert done.code == 2
    assert "answer-by: 'soon' is neither seconds nor a time such as" in done.err


def test_who_asks_in_the_shell_is_told_of_an_overdue_answer(timed):
    words = ["--reply-to", "inbox", "--correlation-id", "q", "--answer-by", 60]
    timed.ok("send", "inbox", "x", *words, "--tell-overdue")
    timed.pass_time(60)
    [_, notice] = timed.ok("query", "inbox", "--json").document["messages"]
    assert notice["overdue"] is True
    assert json.loads(notice["payload"])["type"] == "overdue"
    shown = timed.ok("query", "inbox", "--msg-id", 1).out
    assert "notice of the broker: an answer is overdue" in shown
    done = timed("send", "inbox", "x", "--tell-overdue")
    assert "answer_by: needed with tell_overdue" in done.err
