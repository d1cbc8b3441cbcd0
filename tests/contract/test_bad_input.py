"""Bad input: every argument of every verb refuses what it may not be, and nothing changes.

The tables name, for each argument, what kind of value it takes; a kind is the list of values that
are none of it.
"""

import asyncio
import math
import re

import pytest

from mq9 import InvalidAddress, InvalidRequest, Message, Mq9Client
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
NOT_AGENTS = ["a", 5, True, {}, b"a", [1], [None], [""], [" a"], ["a\n"], ["x" * 129], ["a"] * 65]
WORDS = [5, True, 1.5, b"latest", [], {}, "LATEST", "newest", " latest", HUGE]
ENDLESS = []  # it contains itself
ENDLESS.append(ENDLESS)
PAYLOAD = [None, 5, True, 1.5, object(), {"a"}, {"a": {1}}, {"a": math.nan}, "\ud800", {"a": b""}]
PAYLOAD += [iter(()), [math.inf], {"a": "\ud800"}, "\udfff", {("a",): 1}, ENDLESS]
SECONDS = [None, "1", True, [], math.nan, math.inf, -1, -0.5, TEN_YEARS + 1, b"1"]


def whole(low, high):
    return [*NOT_WHOLE, low - 1, high + 1, -HUGE, HUGE, -math.inf]


def text(longest):
    return [*NOT_TEXT, "\ud800", "a\udfffb", "x" * (longest + 1), "x" * 100_000]


NEEDED = {"mail_address": ADDRESS + REQUIRED}
GROUPED = {**NEEDED, "group_name": WORD + REQUIRED}
ID = whole(0, MAX_ID)
SECOND = whole(0, 253_402_300_799)
LIFE = whole(0, TEN_YEARS)
COUNT = [*whole(1, 1_000), *REQUIRED]
BYTES = [*whole(1, 64 * 1024 * 1024), *REQUIRED]
WAIT = [*whole(0, 86_400_000), *REQUIRED]
LEASE = whole(1_000, 86_400_000)
NOT_JSON = [{"name": "n", "a": {1}}, {"name": "n", "a": math.nan}, {"name": "n", "a": "\ud800"}]
TOKEN = [*WORD, "nonsense", "-", "a-b", "x-99999999999999999999"]
BOX = {"mail_address": "inbox"}
GROUP = {"mail_address": "inbox", "group_name": "g"}
ACTED = {**GROUP, "msg_id": 0}
QUESTION = Message(msg_id=0, payload=b"", create_time=0, reply_to="inbox")

# Of each verb good arguments, and of each argument what it may not be.
CLIENT = {
    "mailbox_create": (
        {},
        {"name": ADDRESS, "ttl": LIFE, "desc": text(1_024), "public": FLAG, "prefix": ADDRESS}
        | {"renew": FLAG, "type": WORDS, "look_policy": WORDS, "viewers": NOT_AGENTS},
    ),
    "mailbox_drop": ({}, NEEDED),
    "mailbox_list_own": ({}, {"after": ADDRESS, "limit": COUNT[:-2], "desc_prefix": text(1_024)}),
    "mailbox_status": (BOX, {**NEEDED, "group_name": WORD, "msg_id": ID}),
    "send": (
        {**BOX, "payload": "x"},
        {**NEEDED, "payload": PAYLOAD, "priority": WORDS + REQUIRED, "key": WORD, "delay": LIFE}
        | {"ttl": whole(1, TEN_YEARS), "tags": TAGS, "id": WORD, "sender": WORD}
        | {"reply_to": ADDRESS, "correlation_id": WORD, "path": PATH},
    ),
    "fetch": (
        {**GROUP, "max_wait_ms": 0},
        {**NEEDED, "group_name": WORD, "deliver": WORDS, "from_time": SECOND, "from_id": ID}
        | {"priority": WORDS, "force_deliver": FLAG, "num_msgs": COUNT, "max_wait_ms": WAIT}
        | {
            "lease_ms": LEASE + REQUIRED,
            "max_bytes": BYTES,
            "redeliver_own": FLAG,
            "list_held": FLAG,
            "min_msgs": COUNT,
            "linger_ms": [*whole(0, 60_000), *REQUIRED],
        }
        | {"begun": FLAG, "consumer": WORD},
    ),
    "ack": (
        ACTED,
        {**GROUPED, "msg_id": ID + REQUIRED, "batch": TOKEN, "individual": FLAG}
        | {"consumer": WORD},
    ),
    "nack": (
        ACTED,
        {**GROUPED, "msg_id": ID + REQUIRED, "batch": WORD, "delay_ms": whole(0, 86_400_000)}
        | {"consumer": WORD},
    ),
    "extend": (
        {**GROUP, "msg_ids": [0]},
        {**GROUPED, "msg_ids": IDS, "lease_ms": [*LEASE, ""], "begun": FLAG, "consumer": WORD},
    ),
    "query": (
        BOX,
        {**NEEDED, "key": WORD, "tags": TAGS, "since": SECOND, "limit": whole(1, 1_000)}
        | {"msg_id": ID, "max_bytes": BYTES, "correlation_id": WORD},
    ),
    "delete": ({**BOX, "msg_id": 0}, {**NEEDED, "msg_id": ID + REQUIRED}),
    "agent_register": (
        {"agent_card": {"name": "new"}},
        {"agent_card": [5, True, "x", [], b"{}", *NOT_JSON, {"name": "n", (): 1}], "ttl": LIFE},
    ),
    "agent_unregister": ({}, {"mailbox": NOT_TEXT, "name": AGENT}),
    "agent_report": (
        {},
        {"report": [5, True, "x", [], b"{}", {"name": "known", "a": math.inf}, HUGE]},
    ),
    "agent_discover": (
        {},
        {"text": text(4_096), "semantic": text(4_096), "limit": COUNT}
        | {"page": [*whole(1, 1_000_000), *REQUIRED]}
        | {"min_score": [-0.1, 2.1, True, "high", [0.5], {"least": 1}]},
    ),
    "request": (
        {**BOX, "payload": "x", "timeout": 1},
        {**NEEDED, "payload": PAYLOAD, "timeout": [*SECONDS, 0, HUGE, -HUGE]}
        | {"priority": WORDS + REQUIRED, "sender": WORD},
    ),
    "reply": (
        {"message": QUESTION, "payload": "x"},
        {"message": [None, 5, "x", {}, {"reply_to": "inbox"}, HUGE]}
        | {"payload": PAYLOAD, "sender": WORD},
    ),
    "watch_unread": (GROUP, GROUPED),
    "consume": (
        {**BOX, "handler": print},
        {**NEEDED, "handler": [None, 5, "x", []], "group_name": WORD, "deliver": WORDS}
        | {"num_msgs": COUNT, "max_wait_ms": WAIT, "auto_ack": FLAG, "error_handler": [5, "x", []]}
        | {"concurrency": COUNT, "lease_ms": LEASE, "dead_letter": ADDRESS}
        | {"max_deliveries": [*whole(1, 1_000_000), *REQUIRED]}
        | {"retry_delay": SECONDS, "max_retry_delay": SECONDS},
    ),
}


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


@pytest.mark.parametrize("verb", CLIENT)
async def test_an_argument_refuses_what_it_may_not_be(way, client, lived_in, verb):
    good, arguments = CLIENT[verb]
    before = way.state()
    wrong = []
    for argument, value in ((name, value) for name in arguments for value in arguments[name]):
        try:
            await _call(client, verb, {**good, argument: value})
        except InvalidRequest as error:
            address = isinstance(error, InvalidAddress)
            if not _says(error, "mail_address" if address else argument, value):
                wrong.append((argument, shown(value), str(error)))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is wrong
            wrong.append((argument, shown(value), repr(error)))
        else:
            wrong.append((argument, shown(value), "accepted"))
    assert wrong == []
    assert way.state() == before


async def test_cards_and_reports_refuse_what_their_fields_may_not_be(way, client, lived_in):
    before = way.state()
    for field, values in {"name": AGENT, "mailbox": ADDRESS, "ttl": LIFE}.items():
        for value in values:
            with pytest.raises(InvalidRequest, match=rf"{field}|mail_address"):
                await client.agent_register({"name": "n", "mailbox": "m", field: value})
    for field, values in {"name": AGENT, "mailbox": NOT_TEXT}.items():
        for value in values:
            with pytest.raises(InvalidRequest, match=field):
                await client.agent_report({"name": "known", field: value})
    assert way.state() == before


async def test_an_agent_that_is_not_named_is_refused(client, lived_in):
    for who in ({}, {"name": None}, {"name": ""}, {"mailbox": ""}):
        with pytest.raises(InvalidRequest, match="name"):
            await client.agent_register({**who, "payload": "x"})
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


OF_AN_AGENT = {"name": AGENT, "mailbox": ADDRESS}
CONFIG = [5, True, "x", [], 1.5]
IN_CONFIG = {
    "num_msgs",
    "max_bytes",
    "max_wait_ms",
    "lease_ms",
    "consumer",
    "redeliver_own",
    "list_held",
    "min_msgs",
    "linger_ms",
}
IN_CONFIG |= {"begun"}

# Of each verb the method whose arguments its fields are, a good request, and its other fields.
WIRE = {
    "MAILBOX.CREATE": ("mailbox_create", {}, {}),
    "MAILBOX.STATUS.inbox": ("mailbox_status", {}, {}),
    "MSG.FETCH.inbox": ("fetch", {"group_name": "g"}, {"request_id": WORD, "config": CONFIG}),
    "MSG.ACK.inbox": ("ack", ACTED, {"mail_address": ADDRESS}),
    "MSG.NACK.inbox": ("nack", {"group_name": "g", "msg_id": 0}, {}),
    "MSG.EXTEND.inbox": ("extend", {"group_name": "g", "msg_ids": [0]}, {}),
    "MSG.QUERY.inbox": ("query", {}, {}),
    "AGENT.REGISTER": (None, {"name": "n"}, {**OF_AN_AGENT, "ttl": LIFE}),
    "AGENT.UNREGISTER": (None, {"name": "known"}, OF_AN_AGENT),
    "AGENT.REPORT": (None, {"name": "known"}, OF_AN_AGENT),
    "AGENT.DISCOVER": ("agent_discover", {}, {}),
}


@pytest.mark.parametrize("verb", WIRE)
async def test_a_field_on_the_wire_refuses_what_it_may_not_be(way, lived_in, verb):
    method, good, others = WIRE[verb]
    arguments = CLIENT[method][1] if method else {}
    fields = {name: values for name, values in arguments.items() if name != "mail_address"} | others
    before = way.state()
    wrong = []
    for field, value in ((name, value) for name in fields for value in _json(fields[name])):
        in_config = method == "fetch" and field in IN_CONFIG
        body = {**good, **({"config": {field: value}} if in_config else {field: value})}
        async with asyncio.timeout(30):
            reply = await way.ask(verb, body)
        named = "mail_address" if reply.get("code") == "invalid_address" else field
        refused = reply.get("code") in {"invalid_request", "invalid_address"}
        if not (refused and _says(reply["error"], named, value)):
            wrong.append((field, repr(value)[:60], reply))
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
