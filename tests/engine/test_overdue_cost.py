"""Only SENDs that await answers, and the answers, pay for overdue notices."""

import re

import pytest
from calls import call, carry_out

from mq9.protocol.requests import Ack, CreateMailbox, Extend, Fetch, Move, Send

NOW = 1_800_000_000_000
SOON = NOW // 1000 + 60
TOUCHES = re.compile(r"(FROM|INTO|UPDATE|JOIN) awaited", re.IGNORECASE)


@pytest.fixture
def touched(connection):
    """The SQL statements about awaited answers after the mailboxes are created."""
    carry_out(connection, call(CreateMailbox, "box"), NOW)
    carry_out(connection, call(CreateMailbox, "asker", token="a"), NOW)
    found = []
    connection.set_trace_callback(lambda sql: found.append(sql) if TOUCHES.search(sql) else None)
    return found


def ask(**options):
    return call(Send, "box", reply_to="asker", correlation_id="q", answer_by=SOON, **options)


def test_nothing_is_looked_up_where_no_answer_is_awaited(connection, touched):
    carry_out(connection, ask(tell_overdue=True), NOW)
    assert len(touched) == 1
    touched.clear()
    # Another mailbox awaits an answer, and this one does not.
    for options in ({}, {"key": "k"}, {"key": "k"}, {"delay": 60}, {"ttl": 60}):
        options |= {"correlation_id": "q", "sender": "somebody"}
        carry_out(connection, call(Send, "box", **options), NOW)
    carry_out(connection, ask(), NOW)
    fetch = call(Fetch, "box", group_name="g", consumer="c")
    given = carry_out(connection, fetch, NOW).messages
    assert len(given) == 5
    carry_out(connection, call(Extend, "box", group_name="g", consumer="c", msg_ids=(0,)), NOW)
    carry_out(connection, call(Ack, "box", group_name="g", consumer="c", msg_id=0), NOW)
    assert touched == []


def test_one_statement_ends_a_wait(connection, touched):
    carry_out(connection, ask(tell_overdue=True), NOW)
    touched.clear()
    carry_out(connection, call(Send, "asker", sender="worker", correlation_id="q"), NOW)
    assert len(touched) == 1
    touched.clear()
    carry_out(connection, call(Send, "asker", sender="worker", correlation_id="q"), NOW)
    assert touched == []


def test_what_it_looks_up_has_an_index(connection, touched):
    for number in range(50):
        carry_out(connection, ask(tell_overdue=True, id=f"{number}"), NOW)
    fetch = call(Fetch, "box", group_name="g", consumer="c", num_msgs=2)
    carry_out(connection, fetch, NOW)
    promise = {"until": SOON + 60}
    options = {"group_name": "g", "consumer": "c"}
    carry_out(connection, call(Extend, "box", msg_ids=(0,), promise=promise, **options), NOW)
    carry_out(connection, call(CreateMailbox, "dead", token="d"), NOW)
    carry_out(connection, call(Move, "box", msg_id=0, to="dead", **options), NOW)
    carry_out(connection, call(Send, "asker", sender="worker", correlation_id="q", delay=1), NOW)
    carry_out(connection, call(Fetch, "asker", group_name="g"), NOW + 60_000)
    asked = {sql for sql in touched if not sql.startswith("INSERT")}
    assert len(asked) > 5
    connection.set_trace_callback(None)
    for sql in asked:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "SCAN awaited" not in plan, (sql, plan)
