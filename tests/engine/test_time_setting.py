"""An operator sets the time of a state: back without losing mail, or ahead."""

import json
import re
from importlib import resources

import pytest
from calls import call, carry_out

from mq9 import engine
from mq9.engine import machine
from mq9.engine.state import FUTURE, PAST, position, set_time
from mq9.errors import MailboxNotFound
from mq9.protocol.requests import CreateMailbox, Extend, Fetch, Query, Register, Send

NOW = 1_800_000_000_000
YEARS = 30 * 365 * 86_400_000
MINUTE = 60_000


def texts(connection, address, now):
    asked = call(Fetch, address, group_name=f"at {now}", num_msgs=100)
    return [one.payload.decode() for one in carry_out(connection, asked, now).messages]


def test_each_instant_of_the_schema_is_set():
    schema = resources.files(engine).joinpath("schema.sql").read_text("utf-8")
    found = set()
    for table, columns in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", schema, re.DOTALL):
        found |= {(table, one) for one in re.findall(r"^ *(\w+_ms) ", columns, re.MULTILINE)}
    past = {(table, column) for table, columns in PAST.items() for column in columns}
    assert found == past | set(FUTURE) | {("state", "now_ms")}
    assert len(found) == len(past) + len(FUTURE) + 1


@pytest.fixture
def jumped(connection):
    """A state whose time jumped 30 years ahead, with mail from before and after; its time."""
    carry_out(connection, call(CreateMailbox, "box"), NOW)
    carry_out(connection, call(CreateMailbox, "asked", token="q"), NOW)
    carry_out(connection, call(CreateMailbox, "answers", token="w"), NOW)
    carry_out(connection, call(CreateMailbox, "hour", token="h", ttl=3_600), NOW)
    carry_out(connection, call(Send, "box", payload=b"before"), NOW)
    carry_out(connection, call(Send, "hour", payload=b"in an hour box"), NOW)
    carry_out(connection, call(Send, "box", payload=b"hour before", ttl=3_600), NOW)
    ahead = NOW + YEARS
    carry_out(connection, call(CreateMailbox, "new", token="n", ttl=3_600), ahead)
    carry_out(connection, call(Send, "new", payload=b"after"), ahead)
    carry_out(connection, call(Send, "new", payload=b"hour after", ttl=3_600), ahead)
    carry_out(connection, call(Send, "new", payload=b"late", delay=600), ahead)
    carry_out(connection, call(Send, "new", payload=b"leased"), ahead)
    register = call(Register, "new", token="r", name="ada", ttl=3_600)
    carry_out(connection, register, ahead)
    fetch = call(Fetch, "new", group_name="g", consumer="c", num_msgs=1)
    carry_out(connection, fetch, ahead)
    for correlation_id, answer_by in (("ahead", ahead), ("true", NOW)):
        options = {"correlation_id": correlation_id, "answer_by": answer_by // 1000 + 300}
        carry_out(
            connection, call(Send, "asked", reply_to="answers", tell_overdue=True, **options), ahead
        )
    carry_out(connection, call(Fetch, "asked", group_name="g", consumer="c", num_msgs=1), ahead)
    promise = {"until": ahead // 1000 + 600, "done": "half"}
    extend = call(Extend, "asked", group_name="g", consumer="c", msg_ids=(0,), promise=promise)
    carry_out(connection, extend, ahead)
    return ahead + MINUTE


def test_setting_it_back_keeps_mail_and_ttls_delays_and_leases(connection, jumped):
    carry_out(connection, call(Send, "new", payload=b"last"), jumped)
    applied, _ = position(connection)
    set_time(connection, NOW + MINUTE)
    assert position(connection) == (applied + 1, NOW + MINUTE)

    at = NOW + MINUTE
    assert texts(connection, "box", at) == ["before", "hour before"]
    assert texts(connection, "hour", at) == ["in an hour box"]
    assert texts(connection, "new", at) == ["after", "hour after", "leased", "last"]
    assert "late" not in texts(connection, "new", at + 599_999)
    assert "late" in texts(connection, "new", at + 600_000)
    assert "hour before" in texts(connection, "box", NOW + 60 * MINUTE - 1)
    assert "hour before" not in texts(connection, "box", NOW + 60 * MINUTE)
    with pytest.raises(MailboxNotFound):
        texts(connection, "hour", NOW + 60 * MINUTE)
    assert "hour after" in texts(connection, "new", at + 60 * MINUTE - 1)
    with pytest.raises(MailboxNotFound):
        texts(connection, "new", at + 60 * MINUTE)


def test_a_lease_runs_for_as_long_as_it_had_left(connection, jumped):
    carry_out(connection, call(Send, "new", payload=b"last"), jumped)

    def taken(now):
        fetch = call(Fetch, "new", group_name="g", consumer="d", num_msgs=1)
        [message] = carry_out(connection, fetch, now).messages
        return message.payload

    carry_out(connection, call(Fetch, "new", group_name="h", consumer="c", num_msgs=1), jumped)
    set_time(connection, NOW)
    until = connection.execute("SELECT max(until_ms) FROM replies").fetchone()[0]
    assert NOW < until < NOW + 3_600_000
    assert taken(NOW + 3_600_000 - 1) == b"after"


def test_who_asked_is_told_when_as_much_time_has_passed(connection, jumped):
    set_time(connection, NOW)

    def reported(now):
        return [json.loads(one)["correlation_id"] for one in texts(connection, "answers", now)]

    assert reported(NOW) == ["true"]  # its deadline had passed when the question was sent
    assert reported(NOW + 600_000 - 1) == ["true"]
    assert reported(NOW + 600_000) == ["true", "ahead"]
    query = call(Query, "asked", group_name="g")
    ahead, true = (one.envelope for one in machine.read(connection, query, NOW + 600_000).messages)
    assert (ahead["answer_by"], true["answer_by"]) == (NOW // 1000 + 300, NOW // 1000 + 300)
    promised = ahead["standing"]["promise"]["until"]
    assert NOW // 1000 + 540 <= promised <= NOW // 1000 + 600


def newest(connection, table, column):
    asked = f"SELECT max({column}) FROM {table}"  # noqa: S608  # names of the schema
    return connection.execute(asked).fetchone()[0]


def test_nothing_is_left_in_the_future_that_has_happened(connection, jumped):
    set_time(connection, NOW)
    for table, columns in PAST.items():
        for column in columns:
            latest = newest(connection, table, column)
            assert latest is None or latest <= NOW
    for table, column in FUTURE:
        latest = newest(connection, table, column)
        assert latest is None or latest < NOW + YEARS / 2


def test_setting_it_ahead_ends_what_has_ended_by_then(connection):
    carry_out(connection, call(CreateMailbox, "box"), NOW)
    carry_out(connection, call(Send, "box", payload=b"kept"), NOW)
    carry_out(connection, call(Send, "box", payload=b"over", ttl=60), NOW)
    set_time(connection, NOW + YEARS)
    assert position(connection).now_ms == NOW + YEARS
    assert texts(connection, "box", 0) == ["kept"]
