"""Bad input: every argument of every verb refuses what it may not be, and nothing changes.

The tables name, for each argument, what kind of value it takes; a kind is the list of values that
are none of it.
"""

import asyncio
import math
import re

import pytest

from mq9 import InvalidAddress, InvalidRequest, Message, Mq9Client, Mq9Error
from mq9.address import shown

from .parsing import way_name  # noqa: F401  # a fixture

HUGE = 10**5_000  # Python refuses to write it out
TEN_YEARS = 10 * 365 * 86_400
MAX_ID = 2**53 - 1

NOT_TEXT = [5, 0, True, False, 1.5, b"inbox", [], {}, ["inbox"], ("inbox",), HUGE, math.nan]
UNPRINTABLE = ["a\0b", "a\nb", "\t", "\x7f", "\ud800", "\u200b", "\u2028", "\u202e", "a\x1b[0m"]
ADDRESS = [*NOT_TEXT, *UNPRINTABLE, "A", "a b", " a", "a ", "a..b", ".a", "a.", "a_b", "a-b", "é"]
ADDRESS += ["\u0663", "*", ">", "$mq9.AI", "a/b", "a\r\nPUB x", "x" * 129, "x" * 100_000]
REQUIRED = [None, ""]
WORD = [*NOT_TEXT, *UNPRINTABLE, " ", " a", "a ", "\u3000a", "x" * 257, "x" * 100_000]
AGENT = [*NOT_TEXT, *UNPRINTABLE, " a", "x" * 129, "x" * 100_000]
FLAG = [0, 1, 1.0, "true", "yes", "false", b"", [], {}, HUGE]
NOT_WHOLE = [True, False, 1.5, 1.0, "1", "one", "\u0663", b"1", [], [1], {}, math.nan, math.inf]
TAGS = ["a", 5, True, {}, {"a"}, [1], [None], [""], [" a"], ["a,b"], ["a\n"], ["\ud800"], [["a"]]]
TAGS += [["x" * 257], [f"t{number}" for number in range(65)], [HUGE], b"a"]
PATH = [*TAGS[:-2], ["a"] * 65, b"a"]
IDS = [None, 5, "0", {}, {0}, [], [-1], [True], [1.5], ["0"], [None], [MAX_ID + 1], [0] * 1_001]
IDS += [[HUGE], [[0]], b"0"]
WORDS = [5, True, 1.5, b"latest", [], {}, "LATEST", "newest", " latest", HUGE]
PAYLOAD = [None, 5, True, 1.5, object(), {"a"}, {"a": {1}}, {"a": math.nan}, "\ud800", {"a": b""}]
SECONDS = [None, "1", True, [], math.nan, math.inf, -1, -0.5, TEN_YEARS + 1, b"1"]


def whole(low, high):
    return [*NOT_WHOLE, low - 1, high + 1, -HUGE, HUGE, -math.inf]


def text(longest):
    return [*NOT_TEXT, "\ud800", "a\udfffb", "x" * (longest + 1), "x" * 100_000]


BOX = {"mail_address": "inbox"}
GROUP = {"mail_address": "inbox", "group_name": "g"}
ACTED = {**GROUP, "msg_id": 0}

# verb, good arguments, and of each other argument what it may not be
CLIENT = [
    (
        "mailbox_create",
        {},
        {
            "name": ADDRESS,
            "ttl": whole(0, TEN_YEARS),
            "desc": text(1_024),
            "public": FLAG,
            "prefix": ADDRESS,
            "renew": FLAG,
            "type": WORDS,
        },
    ),
    ("mailbox_drop", {}, {"mail_address": ADDRESS + REQUIRED}),
    (
        "mailbox_status",
        BOX,
        {
            "mail_address": ADDRESS + REQUIRED,
            "group_name": WORD,
            "msg_id": whole(0, MAX_ID),
        },
    ),
    (
        "send",
        {**BOX, "payload": "x"},
        {
            "mail_address": ADDRESS + REQUIRED,
            "payload": PAYLOAD,
            "priority": WORDS + REQUIRED,
            "key": WORD,
            "delay": whole(0, TEN_YEARS),
            "ttl": whole(1, TEN_YEARS),
            "tags": TAGS,
            "id": WORD,
            "sender": WORD,
            "reply_to": ADDRESS,
            "correlation_id": WORD,
            "path": PATH,
        },
    ),
    (
        "fetch",
        {**GROUP, "max_wait_ms": 0},
        {
            "mail_address": ADDRESS + REQUIRED,
            "group_name": WORD,
            "deliver": WORDS,
            "from_time": whole(0, 253_402_300_799),
            "from_id": whole(0, MAX_ID),
            "priority": WORDS,
            "force_deliver": FLAG,
            "num_msgs": [*whole(1, 1_000), *REQUIRED],
            "max_wait_ms": [*whole(0, 86_400_000), *REQUIRED],
            "lease_ms": [*whole(1_000, 86_400_000), *REQUIRED],
            "max_bytes": [*whole(1, 64 * 1024 * 1024), *REQUIRED],
            "redeliver_own": FLAG,
            "begun": FLAG,
            "consumer": WORD,
        },
    ),
    (
        "ack",
        ACTED,
        {
            "mail_address": ADDRESS + REQUIRED,
            "group_name": WORD + REQUIRED,
            "msg_id": [*whole(0, MAX_ID), *REQUIRED],
            "batch": [*WORD, "nonsense"],
            "individual": FLAG,
            "consumer": WORD,
        },
    ),
    (
        "nack",
        ACTED,
        {
            "mail_address": ADDRESS + REQUIRED,
            "group_name": WORD + REQUIRED,
            "msg_id": [*whole(0, MAX_ID), *REQUIRED],
            "batch": WORD,
            "delay_ms": whole(0, 86_400_000),
            "consumer": WORD,
        },
    ),
    (
        "extend",
        {**GROUP, "msg_ids": [0]},
        {
            "mail_address": ADDRESS + REQUIRED,
            "group_name": WORD + REQUIRED,
            "msg_ids": IDS,
            "lease_ms": [*whole(1_000, 86_400_000), ""],
            "begun": FLAG,
            "consumer": WORD,
        },
    ),
    (
        "query",
        BOX,
        {
            "mail_address": ADDRESS + REQUIRED,
            "key": WORD,
            "tags": TAGS,
            "since": whole(0, 253_402_300_799),
            "limit": whole(1, 1_000),
            "msg_id": whole(0, MAX_ID),
            "max_bytes": [*whole(1, 64 * 1024 * 1024), *REQUIRED],
        },
    ),
    (
        "delete",
        {**BOX, "msg_id": 0},
        {"mail_address": ADDRESS + REQUIRED, "msg_id": [*whole(0, MAX_ID), *REQUIRED]},
    ),
    (
        "agent_register",
        {"agent_card": {"name": "new"}},
        {
            "agent_card": [
                5,
                True,
                "x",
                [],
                b"{}",
                {"name": "n", "a": {1}},
                {"name": "n", "a": math.nan},
                {"name": "n", "a": "\ud800"},
                {"name": "n", (): 1},
            ],
            "ttl": whole(0, TEN_YEARS),
        },
    ),
    ("agent_unregister", {}, {"mailbox": NOT_TEXT, "name": AGENT}),
    (
        "agent_report",
        {},
        {"report": [5, True, "x", [], b"{}", {"name": "known", "a": math.inf}, HUGE]},
    ),
    (
        "agent_discover",
        {},
        {
            "text": text(4_096),
            "semantic": text(4_096),
            "limit": [*whole(1, 1_000), *REQUIRED],
            "page": [*whole(1, 1_000_000), *REQUIRED],
        },
    ),
    (
        "request",
        {**BOX, "payload": "x", "timeout": 1},
        {
            "mail_address": ADDRESS + REQUIRED,
            "payload": PAYLOAD,
            "timeout": [*SECONDS, 0, HUGE, -HUGE],
            "priority": WORDS + REQUIRED,
            "sender": WORD,
        },
    ),
    (
        "reply",
        {"message": Message(msg_id=0, payload=b"", create_time=0, reply_to="inbox")}
        | {"payload": "x"},
        {
            "message": [None, 5, "x", {}, {"reply_to": "inbox"}, HUGE],
            "payload": PAYLOAD,
            "sender": WORD,
        },
    ),
    (
        "watch_unread",
        GROUP,
        {"mail_address": ADDRESS + REQUIRED, "group_name": WORD + REQUIRED},
    ),
    (
        "consume",
        {**BOX, "handler": print},
        {
            "mail_address": ADDRESS + REQUIRED,
            "handler": [None, 5, "x", []],
            "group_name": WORD,
            "deliver": WORDS,
            "num_msgs": [*whole(1, 1_000), *REQUIRED],
            "max_wait_ms": [*whole(0, 86_400_000), *REQUIRED],
            "auto_ack": FLAG,
            "error_handler": [5, "x", []],
            "concurrency": [*whole(1, 1_000), *REQUIRED],
            "lease_ms": whole(1_000, 86_400_000),
            "max_deliveries": [*whole(1, 1_000_000), *REQUIRED],
            "dead_letter": ADDRESS,
            "retry_delay": SECONDS,
            "max_retry_delay": SECONDS,
        },
    ),
]


@pytest.fixture
async def lived_in(way, client, inbox):
    """The inbox, with something of everything in it."""
    await client.send(inbox, "plain")
    await client.send(inbox, "keyed", key="k", tags=["t"], ttl=100)
    await client.send(inbox, "later", delay=10)
    await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=1)
    await client.agent_register({"name": "known", "mailbox": inbox})
    await client.agent_report({"name": "known", "load": 1})
    return inbox


def _says(error, field, value):
    """Tell whether the text of an error names the field and, in some way, the value."""
    said = str(error)
    if field not in said or len(said) > 1_000:
        return False
    if field in {"payload", "agent_card", "report"}:
        return True
    inner = value[-1] if isinstance(value, list) and value else value
    if shown(value)[:50] in said or shown(inner)[:50] in said:
        return True
    return hasattr(value, "__len__") and f"{len(value)} " in said


async def _call(client, verb, arguments):
    outcome = getattr(client, verb)(**arguments)
    if hasattr(outcome, "__enter__"):
        with outcome:
            return
    await outcome


@pytest.mark.parametrize(
    ("verb", "good", "argument", "values"),
    [
        pytest.param(verb, good, argument, values, id=f"{verb}-{argument}")
        for verb, good, arguments in CLIENT
        for argument, values in arguments.items()
    ],
)
async def test_an_argument_refuses_what_it_may_not_be(
    way, client, lived_in, verb, good, argument, values
):
    before = way.state()
    wrong = []
    for value in values:
        try:
            await _call(client, verb, {**good, argument: value})
        except InvalidRequest as error:
            address = isinstance(error, InvalidAddress)
            if not _says(error, "mail_address" if address else argument, value):
                wrong.append((value, str(error)))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is wrong
            wrong.append((value, repr(error)))
        else:
            wrong.append((value, "accepted"))
    assert [(shown(value), what) for value, what in wrong] == []
    assert way.state() == before


@pytest.mark.parametrize(
    ("field", "values"),
    [("name", AGENT), ("mailbox", ADDRESS), ("ttl", whole(0, TEN_YEARS))],
)
async def test_a_card_refuses_what_its_fields_may_not_be(way, client, lived_in, field, values):
    before = way.state()
    for value in values:
        card = {"name": "n", "mailbox": "m", field: value}
        with pytest.raises(InvalidRequest, match=rf"{field}|mail_address"):
            await client.agent_register(card)
    assert way.state() == before


@pytest.mark.parametrize(("field", "values"), [("name", AGENT), ("mailbox", NOT_TEXT)])
async def test_a_report_refuses_what_its_fields_may_not_be(way, client, lived_in, field, values):
    before = way.state()
    for value in values:
        with pytest.raises(InvalidRequest, match=field):
            await client.agent_report({"name": "known", field: value})
    assert way.state() == before


@pytest.mark.parametrize("who", [{}, {"name": None}, {"name": ""}, {"mailbox": ""}])
async def test_an_agent_that_is_not_named_is_refused(client, lived_in, who):
    with pytest.raises(InvalidRequest, match="name"):
        await client.agent_unregister(**who)
    with pytest.raises(InvalidRequest, match="name"):
        await client.agent_report({**who, "load": 2})


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("request_timeout", [*SECONDS, 0, HUGE]),
        ("reconnect_attempts", [*whole(0, 1_000), *REQUIRED]),
        ("reconnect_delay", [*SECONDS, -HUGE]),
        ("agent", [*AGENT, ""]),
    ],
)
def test_a_client_refuses_what_its_options_may_not_be(option, values):
    for value in values:
        with pytest.raises(InvalidRequest, match=option):
            Mq9Client("memory://never", **{option: value})


def _json(values):
    """Leave out what JSON cannot carry."""
    floats = (math.inf, -math.inf)
    return [
        value
        for value in values
        if not isinstance(value, (bytes, set, tuple, type(Ellipsis)))
        and value not in ("", None)
        and not (isinstance(value, float) and (math.isnan(value) or value in floats))
        and not (isinstance(value, int) and abs(value) >= 2**63)
        and not (isinstance(value, str) and re.search("[\ud800-\udfff]", value))
        and not (isinstance(value, list) and value in ([HUGE], ["\ud800"]))
    ]


WIRE = [
    (
        "MAILBOX.CREATE",
        {},
        {
            "name": ADDRESS,
            "ttl": whole(0, TEN_YEARS),
            "desc": text(1_024),
            "public": FLAG,
            "prefix": ADDRESS,
            "renew": FLAG,
            "type": WORDS,
        },
    ),
    ("MAILBOX.STATUS.inbox", {}, {"group_name": WORD, "msg_id": whole(0, MAX_ID)}),
    (
        "MSG.FETCH.inbox",
        {"group_name": "g"},
        {
            "group_name": WORD,
            "deliver": WORDS,
            "from_time": whole(0, 253_402_300_799),
            "from_id": whole(0, MAX_ID),
            "priority": WORDS,
            "force_deliver": FLAG,
            "request_id": WORD,
            "config": [5, True, "x", [], 1.5],
            "config.num_msgs": whole(1, 1_000),
            "config.max_bytes": whole(1, 64 * 1024 * 1024),
            "config.max_wait_ms": whole(0, 86_400_000),
            "config.lease_ms": whole(1_000, 86_400_000),
            "config.consumer": WORD,
            "config.redeliver_own": FLAG,
            "config.begun": FLAG,
        },
    ),
    (
        "MSG.ACK.inbox",
        {"group_name": "g", "mail_address": "inbox", "msg_id": 0},
        {
            "group_name": WORD,
            "mail_address": ADDRESS,
            "msg_id": whole(0, MAX_ID),
            "consumer": WORD,
            "batch": WORD,
            "individual": FLAG,
        },
    ),
    (
        "MSG.NACK.inbox",
        {"group_name": "g", "msg_id": 0},
        {
            "group_name": WORD,
            "msg_id": whole(0, MAX_ID),
            "consumer": WORD,
            "batch": WORD,
            "delay_ms": whole(0, 86_400_000),
        },
    ),
    (
        "MSG.EXTEND.inbox",
        {"group_name": "g", "msg_ids": [0]},
        {
            "group_name": WORD,
            "msg_ids": IDS,
            "consumer": WORD,
            "lease_ms": whole(1_000, 86_400_000),
            "begun": FLAG,
        },
    ),
    (
        "MSG.QUERY.inbox",
        {},
        {
            "key": WORD,
            "tags": TAGS,
            "since": whole(0, 253_402_300_799),
            "limit": whole(1, 1_000),
            "msg_id": whole(0, MAX_ID),
            "max_bytes": whole(1, 64 * 1024 * 1024),
        },
    ),
    (
        "AGENT.REGISTER",
        {"name": "n"},
        {"name": AGENT, "mailbox": ADDRESS, "ttl": whole(0, TEN_YEARS)},
    ),
    ("AGENT.UNREGISTER", {"name": "known"}, {"name": AGENT, "mailbox": ADDRESS}),
    ("AGENT.REPORT", {"name": "known"}, {"name": AGENT, "mailbox": ADDRESS}),
    (
        "AGENT.DISCOVER",
        {},
        {
            "text": text(4_096),
            "semantic": text(4_096),
            "limit": whole(1, 1_000),
            "page": whole(1, 1_000_000),
        },
    ),
]


@pytest.mark.parametrize(
    ("verb", "good", "field", "values"),
    [
        pytest.param(verb, good, field, _json(values), id=f"{verb}-{field}")
        for verb, good, fields in WIRE
        for field, values in fields.items()
    ],
)
async def test_a_field_on_the_wire_refuses_what_it_may_not_be(
    way, lived_in, verb, good, field, values
):
    before = way.state()
    wrong = []
    for value in values:
        outer, _, inner = field.rpartition(".")
        body = {**good, outer: {inner: value}} if outer else {**good, inner: value}
        async with asyncio.timeout(30):
            reply = await way.ask(verb, body)
        named = "mail_address" if reply.get("code") == "invalid_address" else inner
        refused = reply.get("code") in {"invalid_request", "invalid_address"}
        if not (refused and _says(reply["error"], named, value)):
            wrong.append((repr(value)[:60], reply))
    assert wrong == []
    assert way.state() == before


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("MSG.ACK.inbox", {"msg_id": 0}, "group_name"),
        ("MSG.ACK.inbox", {"group_name": "g"}, "msg_id"),
        ("MSG.NACK.inbox", {"msg_id": 0}, "group_name"),
        ("MSG.NACK.inbox", {"group_name": "g"}, "msg_id"),
        ("MSG.EXTEND.inbox", {"msg_ids": [0]}, "group_name"),
        ("MSG.EXTEND.inbox", {"group_name": "g"}, "msg_ids"),
        ("AGENT.REGISTER", {"ttl": 1}, "name"),
        ("AGENT.UNREGISTER", {}, "name"),
        ("AGENT.REPORT", {"load": 1}, "name"),
    ],
)
async def test_a_field_that_is_needed_is_missed_by_name(way, lived_in, verb, body, field):
    before = way.state()
    for absent in ({}, {field: None}, {field: ""}):
        reply = await way.ask(verb, {**body, **absent})
        assert reply["code"] == "invalid_request"
        assert field in reply["error"]
    assert way.state() == before


async def test_every_refusal_is_an_error_of_ours(client):
    with pytest.raises(Mq9Error):
        await client.send(5, object(), priority=7)
