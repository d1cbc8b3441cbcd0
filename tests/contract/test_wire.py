"""What goes over the wire: raw requests, as any NATS client could make them."""

import base64
from dataclasses import fields

import orjson
import pytest

from mq9.protocol.requests import Delete, Send
from mq9.protocol.verbs import VERBS, Target

from .parsing import way_name  # noqa: F401  # a fixture
from .reading import START

BASE64 = ("mq9-encoding", "base64")
OFFICIAL = {"num_msgs": 100, "max_wait_ms": 500}
OF_TARGET = {Target.BROKER: "", Target.MAILBOX: ".inbox", Target.MESSAGE: ".inbox.0"}
SUBJECTS = {verb.name + OF_TARGET[verb.target]: verb.request for verb in VERBS.values()}
# What a request has to say, where that is anything.
BODIES = {
    "MAILBOX.GRANT.inbox": {"readers": []},
    "MSG.FETCH.inbox": {"group_name": "g", "config": {"max_wait_ms": 0, "unknown": [1]}},
    "MSG.ACK.inbox": {"group_name": "g", "mail_address": "inbox", "msg_id": 0},
    "MSG.NACK.inbox": {"group_name": "g", "msg_id": 0},
    "MSG.MOVE.inbox": {"group_name": "g", "msg_id": 0, "to": "other"},
    "MSG.EXTEND.inbox": {"group_name": "g", "msg_ids": [0]},
    "MSG.RELEASE.inbox": {"group_name": "g", "request_id": "r"},
    "MSG.NOTICE.inbox": {"host": "h", "session": "s", "occasion": "start"},
    "MSG.CANCEL.inbox": {"delayed_id": 1},
    "MSG.SENT": {"sender": "n", "correlation_ids": ["c"]},
    "CONVERSATION.READ": {"id": "c"},
    "AGENT.REGISTER": {"name": "n"},
    "AGENT.LOOKUP": {"names": ["known"]},
    "AGENT.REPORT": {"name": "known"},
    "AGENT.UNREGISTER": {"name": "known"},
}
# Verbs that answer nobody in particular.
OF_KNOWN = {
    *("OWN.LIST", "CONVERSATION.LIST", "CONVERSATION.READ", "CONVERSATION.LINKS", "STUCK.LIST")
}


async def _refused(way, field, verb, body=b"", *headers, code="invalid_request"):
    if not way.can_say(verb, headers):
        return
    reply = await way.ask(verb, body, *headers)
    assert reply.get("code") == code
    assert field in reply["error"]


@pytest.fixture
async def unchanged(way, inbox):
    """What the test does must leave the broker as it was."""
    before = way.state()
    yield
    assert way.state() == before


TEXTS = [b"plain", "雪 ☃".encode(), b"", b"\0 nul", b'{"a": 1}', b"aGVsbG8="]


@pytest.mark.parametrize("asked", [None, "text", "base64"])
@pytest.mark.parametrize("payload", [*TEXTS, b"\xff\xfe", bytes(range(256))])
async def test_a_payload_is_text_where_it_is_text_unless_base64_is_asked_for(
    way, inbox, payload, asked
):
    await way.ask(f"MSG.SEND.{inbox}", payload)
    headers = () if asked is None else (("mq9-encoding", asked),)
    reads = [("MSG.QUERY", b""), ("MSG.FETCH", {"deliver": "earliest"})]
    if asked == "text":  # though an official SDK would be given base64
        reads.append(
            ("MSG.FETCH", {"deliver": "latest", "force_deliver": False, "config": OFFICIAL})
        )

    for verb, body in reads:
        [item] = (await way.ask(f"{verb}.{inbox}", body, *headers))["messages"]
        if payload in TEXTS and asked != "base64":
            assert (item["payload"], "encoding" in item) == (payload.decode(), False)
        else:
            assert base64.b64decode(item["payload"], validate=True) == payload
            assert item["encoding"] == "base64"


@pytest.mark.parametrize("missing", [None, "deliver", "force_deliver", "num_msgs", "max_wait_ms"])
async def test_a_fetch_with_every_field_of_the_official_sdks_gets_base64(way, inbox, missing):
    await way.ask(f"MSG.SEND.{inbox}", b"hello")
    config = {name: value for name, value in OFFICIAL.items() if name != missing}
    fields = {"deliver": "latest", "force_deliver": False, "config": config}
    body = {name: value for name, value in fields.items() if name != missing}

    [item] = (await way.ask(f"MSG.FETCH.{inbox}", body))["messages"]

    expected = ("aGVsbG8=", "base64") if missing is None else ("hello", None)
    assert (item["payload"], item.get("encoding")) == expected


async def test_a_send_is_answered_with_the_id_alone(way, inbox):
    assert await way.ask(f"MSG.SEND.{inbox}", b"x") == {"error": "", "msg_id": 0}
    later = await way.ask(f"MSG.SEND.{inbox}", b"x", ("mq9-delay", "5"))
    assert later == {"error": "", "msg_id": -1}


async def test_a_message_has_every_field_of_the_protocol_that_applies(way, inbox):
    await way.ask(
        f"MSG.SEND.{inbox}",
        b"x",
        ("mq9-priority", "urgent"),
        ("mq9-key", "k"),
        ("mq9-ttl", "60"),
        ("mq9-tags", "a,b"),
        ("mq9-id", "i"),
        ("mq9-from", "ada"),
        ("mq9-reply-to", "mq9://somewhere/ada"),
        ("mq9-correlation-id", "c"),
        ("mq9-path", "ada,bob"),
        ("other-header", "is kept"),
    )
    await way.ask(f"MSG.SEND.{inbox}", b"y")
    body = {"group_name": "g", "deliver": "earliest", "config": {"num_msgs": 2}}

    reply = await way.ask(f"MSG.FETCH.{inbox}", body)

    assert reply["messages"] == [
        {
            "msg_id": 0,
            "payload": "x",
            "priority": "urgent",
            "create_time": START,
            "key": "k",
            "tags": ["a", "b"],
            "from": "ada",
            "reply_to": "ada",
            "correlation_id": "c",
            "path": ["ada", "bob"],
            "headers": {"other-header": "is kept"},
            "delivery_count": 1,
        },
        {
            "msg_id": 1,
            "payload": "y",
            "priority": "normal",
            "create_time": START,
            "delivery_count": 1,
        },
    ]
    assert reply["lease_until"] == START + 60
    assert isinstance(reply["batch"], str)
    assert set(reply) == {"error", "messages", "batch", "lease_until"}


async def test_an_empty_fetch_has_an_empty_list_and_says_why(way, inbox):
    reply = await way.ask(f"MSG.FETCH.{inbox}", {"config": {"max_wait_ms": 0}})

    assert reply["messages"] == []
    assert set(reply) == {"error", "messages", "waiting"}


async def test_the_names_of_headers_are_case_insensitive(way, inbox):
    await way.ask(f"MSG.SEND.{inbox}", b"x", ("MQ9-Priority", "critical"), ("Mq9-KEY", "k"))

    [item] = (await way.ask(f"MSG.QUERY.{inbox}", b"", ("MQ9-ENCODING", "base64")))["messages"]
    assert (item["priority"], item["key"], item["encoding"]) == ("critical", "k", "base64")


@pytest.mark.parametrize("name", ["mq9-key", "mq9-priority", "mq9-tags", "mq9-new-in-2030"])
async def test_a_repeated_header_is_an_error(way, inbox, unchanged, name):
    await _refused(way, name, f"MSG.SEND.{inbox}", b"x", (name, "normal"), (name.upper(), "normal"))


async def test_other_repeated_headers_are_nobodys_business(way, inbox):
    reply = await way.ask(f"MSG.SEND.{inbox}", b"x", ("Nats-Msg-Id", "1"), ("Nats-Msg-Id", "2"))

    assert reply["error"] == ""


async def test_a_letter_that_only_looks_alike_names_no_header(way, inbox, unchanged):
    await _refused(way, "headers", f"MSG.SEND.{inbox}", b"x", ("mq9-\u212aey", "k"))


BAD_TEXTS = ["", " ", " x", "x ", "a\tb", "a\nb", "a\0b", "\x7f", "\u200b", "\u2028", "x" * 257]
BAD_NUMBERS = ["", "-1", "+1", "1.0", "1e3", " 1", "1 ", "0x1", "one", "\u0663", "1_0", "9" * 30]


@pytest.mark.parametrize(
    "header", ["key", "id", "from", "correlation-id", "tags", "path", "priority", "reply-to"]
)
async def test_a_malformed_header_is_an_error_and_never_mended(way, inbox, unchanged, header):
    words = {"from": "sender", "correlation-id": "correlation_id", "reply-to": "mail_address"}
    for value in BAD_TEXTS:
        code = "invalid_address" if header == "reply-to" and value else "invalid_request"
        field = f"mq9-{header}" if value == "" else words.get(header, header)
        await _refused(way, field, f"MSG.SEND.{inbox}", b"x", (f"mq9-{header}", value), code=code)


@pytest.mark.parametrize("header", ["delay", "ttl"])
async def test_a_malformed_number_is_an_error_and_never_mended(way, inbox, unchanged, header):
    for value in [*BAD_NUMBERS, "315360001"]:
        await _refused(way, header, f"MSG.SEND.{inbox}", b"x", (f"mq9-{header}", value))


@pytest.mark.parametrize("header", ["tags", "path"])
async def test_a_malformed_list_is_an_error(way, inbox, unchanged, header):
    for value in ["a,", ",a", "a,,b", "a, b", "a ,b", ",", ",".join("ab" * 33)]:
        await _refused(way, header, f"MSG.SEND.{inbox}", b"x", (f"mq9-{header}", value))


@pytest.mark.parametrize("value", ["", "base 64", "BASE64", "utf-8", "base64,base64"])
async def test_an_unknown_encoding_is_refused_by_every_verb(way, inbox, unchanged, value):
    for verb in SUBJECTS:
        await _refused(way, "mq9-encoding", verb, b"", ("mq9-encoding", value))


async def test_a_malformed_unread_header_is_refused(way, inbox, unchanged):
    for value in ("", "inbox", "inbox/", "inbox/ g", "inbox/g\n", "/g", "In/g"):
        address = value in {"/g", "In/g"}
        code = "invalid_address" if address else "invalid_request"
        field = "mail_address" if address else "mq9-unread"
        for verb in ("MSG.SEND.inbox", "PUBLIC.LIST"):
            await _refused(way, field, verb, b"", ("mq9-unread", value), code=code)


async def test_the_unread_header_adds_the_counts_to_any_reply(way, inbox):
    unread = ("mq9-unread", f"{inbox}/group/with/slashes")
    sent = await way.ask(f"MSG.SEND.{inbox}", b"x", ("mq9-priority", "urgent"), unread)
    assert sent == {"error": "", "msg_id": 0, "unread": {"critical": 0, "urgent": 1, "normal": 0}}

    for verb in ("PUBLIC.LIST", "AGENT.DISCOVER", f"MSG.QUERY.{inbox}", f"MAILBOX.STATUS.{inbox}"):
        assert (await way.ask(verb, b"", unread))["unread"]["urgent"] == 1
    fetch = {"group_name": "group/with/slashes", "deliver": "earliest"}
    fetched = await way.ask(f"MSG.FETCH.{inbox}", fetch, unread)
    assert fetched["unread"] == {"critical": 0, "urgent": 0, "normal": 0}


async def test_the_unread_header_takes_the_url_form_and_bears_a_missing_mailbox(way, inbox):
    await way.ask(f"MSG.SEND.{inbox}", b"x")

    there = await way.ask("PUBLIC.LIST", b"", ("mq9-unread", f"mq9://broker/{inbox}/g"))
    missing = await way.ask("PUBLIC.LIST", b"", ("mq9-unread", "nowhere/g"))

    assert there["unread"]["normal"] == 1
    assert missing["error"] == ""
    assert "unread" not in missing


async def test_an_unknown_subject_is_answered_and_never_met_with_silence(way, unchanged):
    verbs = ["", "MSG", "MSG.", "MSG.SENT.inbox", "msg.send.inbox", "MAILBOX.QUERIED.inbox"]
    verbs += ["INBOXES.inbox", "MAILBOX.CREATE.inbox", "MAILBOX.CREATE.", "PUBLIC.LIST.x"]
    for verb in (*verbs, "AGENT.REGISTER.", "MSG..inbox"):
        await _refused(way, "subject", verb, {"name": "x"})


@pytest.mark.parametrize("subject", ["", "other", "$mq9.AI", "$mq9.AIMSG.SEND.inbox", "\ud800"])
async def test_another_subject_altogether_is_answered_too(way, subject):
    if "any subject" not in way.capabilities:
        pytest.skip("only subjects of mq9 are meant for the broker here")
    reply = orjson.loads(await way.handle(subject, b"", ()))

    assert reply["code"] == "invalid_request"
    assert "subject" in reply["error"]


async def test_what_is_no_address_in_the_subject_is_refused(way, unchanged):
    for verb in (verb for verb in SUBJECTS if ".inbox" in verb):
        for address in ("", "A", "a..b", ".a", "a b", "a*", ">", "é", "a" * 129):
            subject = verb.replace("inbox", address)
            await _refused(way, "mail_address", subject, b"", code="invalid_address")


async def test_a_delete_needs_a_number(way, inbox):
    for number in ("", "x", "-1", "\u0663", "9" * 30, "+1", " 1"):
        verb = f"MSG.DELETE.{inbox}.{number}"
        if way.can_say(verb, ()):
            reply = await way.ask(verb)
            assert reply["code"] in {"invalid_request", "message_not_found"}
    assert way.state()["messages"] == []


async def test_what_is_no_json_object_is_refused(way, inbox, unchanged):
    for verb, request in SUBJECTS.items():
        if fields(request) and request not in {Send, Delete}:  # of which the payload is no request
            for body in (b"{", b"[]", b"1", b'"x"', b"null", b"true", b"\xff", b"{'a':1}", b"{}x"):
                await _refused(way, "payload", verb, body)


async def test_json_nested_too_deep_is_refused(way, client, inbox):
    await client.agent_register({"name": "A"})
    for depth in (101, 300, 1_000, 100_000):
        body = b'{"name":"A","deep":' + b"[" * depth + b"]" * depth + b"}"
        for verb in ("AGENT.REGISTER", "AGENT.REPORT", "MSG.FETCH.inbox"):
            await _refused(way, "payload", verb, body)


async def test_json_nested_deep_enough_comes_back(way, client):
    deep = b"[" * 99 + b'"pearl"' + b"]" * 99
    for verb in ("AGENT.REGISTER", "AGENT.REPORT"):
        assert (await way.ask(verb, b'{"name":"A","deep":' + deep + b"}"))["error"] == ""

    [agent] = await client.agent_discover(text="pearl")
    assert agent["deep"] == agent.match.status["deep"] == orjson.loads(deep)


@pytest.mark.parametrize("verb", SUBJECTS)
async def test_unknown_fields_are_ignored(way, client, inbox, verb):
    await client.mailbox_create(name="other")
    await client.agent_register({"name": "known"})
    await client.send(inbox, "x")
    await client.send(inbox, "later", delay=60)
    await client.fetch(inbox, group_name="g", deliver="earliest")

    body = BODIES.get(verb, {})
    reply = await way.ask(verb, {**body, "num_msgs": -1, "colour": {"deep": [None]}, "": 0})

    refused = "forbidden" if verb in OF_KNOWN else None  # nobody says who asks
    assert reply.get("code") == refused


@pytest.mark.parametrize("absent", [None, ""])
async def test_null_and_the_empty_text_stand_for_absent(way, client, inbox, absent):
    await client.send(inbox, "x")
    nothing = {"name": "new", "ttl": absent, "desc": absent, "public": absent, "prefix": absent}
    nothing |= {"renew": absent, "type": absent}
    assert (await way.ask("MAILBOX.CREATE", nothing))["error"] == ""
    optional = ("from_time", "from_id", "priority", "force_deliver", "request_id")
    config = ("num_msgs", "max_bytes", "max_wait_ms", "lease_ms", "consumer")
    fetched = await way.ask(
        f"MSG.FETCH.{inbox}",
        {"group_name": "g", "deliver": "earliest"}
        | dict.fromkeys(optional, absent)
        | {"config": dict.fromkeys(config, absent)},
    )
    assert [item["msg_id"] for item in fetched["messages"]] == [0]
    own = {"group_name": "g", "config": {"redeliver_own": absent, "max_wait_ms": 0}}
    assert len((await way.ask(f"MSG.FETCH.{inbox}", own))["messages"]) == 1
    found = await way.ask(
        f"MSG.QUERY.{inbox}",
        dict.fromkeys(("key", "tags", "since", "limit", "msg_id", "max_bytes"), absent),
    )
    assert len(found["messages"]) == 1
    acted = {"group_name": "g", "msg_id": 0, "consumer": absent, "batch": absent}
    assert (await way.ask(f"MSG.NACK.{inbox}", {**acted, "delay_ms": absent}))["error"] == ""
    acked = {**acted, "individual": absent, "mail_address": absent}
    assert (await way.ask(f"MSG.ACK.{inbox}", acked))["acked"] == [0]
    status = await way.ask(f"MAILBOX.STATUS.{inbox}", {"group_name": absent, "msg_id": absent})
    assert status["error"] == ""
    card = {"name": "n", "mailbox": absent, "ttl": absent}
    assert (await way.ask("AGENT.REGISTER", card))["error"] == ""
    everyone = dict.fromkeys(("text", "semantic", "limit", "page"), absent)
    assert len((await way.ask("AGENT.DISCOVER", everyone))["agents"]) == 1
    assert (await way.ask("AGENT.UNREGISTER", {"name": "n", "mailbox": absent}))["error"] == ""


@pytest.mark.parametrize("verb", ["MAILBOX.CREATE", "MSG.FETCH.inbox", "MSG.QUERY.inbox"])
async def test_an_empty_payload_is_an_empty_object(way, inbox, verb):
    reply = await way.begin(way.ask(verb))
    await way.clock.advance(1)

    assert (await reply)["error"] == ""


async def test_a_fetch_that_cannot_be_answered_does_nothing(way, client, inbox):
    await client.send(inbox, "x")
    before = way.state()
    body = {"group_name": "g", "deliver": "earliest", "force_deliver": True}

    await way.ask(f"MSG.FETCH.{inbox}", body, wants_reply=False)

    assert way.state() == before


async def test_a_send_that_cannot_be_answered_is_stored(way, client, inbox):
    await way.ask(f"MSG.SEND.{inbox}", b"x", wants_reply=False)

    assert len(await client.query(inbox)) == 1


async def test_without_a_consumer_the_connection_is_the_consumer(way, client, inbox):
    await client.send(inbox, "a")
    body = {"group_name": "g", "deliver": "earliest", "config": {"max_wait_ms": 0}}

    async def fetched_by(connection):
        reply = await way.ask(f"MSG.FETCH.{inbox}", body, consumer=connection)
        return [item["msg_id"] for item in reply["messages"]]

    assert await fetched_by("one") == [0]
    assert await fetched_by("two") == []
    assert await fetched_by("one") == [0]
    extend = {"group_name": "g", "msg_ids": [0]}
    lost = await way.ask(f"MSG.EXTEND.{inbox}", extend, consumer="two")
    assert (lost["extended"], lost["lost"]) == ([], [0])
    kept = await way.ask(f"MSG.EXTEND.{inbox}", extend, consumer="one")
    assert (kept["extended"], kept["lost"]) == ([0], [])


@pytest.mark.parametrize("headers", [(), (BASE64,)])
@pytest.mark.parametrize(
    "payload",
    [b"a" * 1_000, b'"' * 1_000, b"\xff" * 1_000, "雪".encode() * 300, bytes(2_000)],
    ids=lambda payload: str(payload[:3]),
)
async def test_max_bytes_bounds_the_reply_itself(way, client, inbox, payload, headers):
    said = {"sender": "雪" * 250, "correlation_id": '"' * 256, "tags": ["\\" * 200, "雪" * 200]}
    for _ in range(20):
        await client.send(inbox, payload, **said)
    for verb, body in (
        ("MSG.QUERY", {"max_bytes": 20_000}),
        ("MSG.FETCH", {"deliver": "earliest", "config": {"max_bytes": 20_000}}),
    ):
        raw = await way.handle(f"$mq9.AI.{verb}.{inbox}", orjson.dumps(body), headers)
        reply = orjson.loads(raw)
        assert reply["more"] is True
        assert 1 <= len(reply["messages"]) < 20
        assert len(raw) <= 20_000
