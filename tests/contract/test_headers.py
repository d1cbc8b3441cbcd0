"""Headers of a message: whatever is not the protocol's or NATS's own is stored and returned."""

import copy
import pickle
import re

import pytest

from mq9 import InvalidRequest, Message, MessageHeaders

from .parsing import only_read

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1,other=2",
}


async def read(client, box):
    """The headers of each message, by every way to read it."""
    ways = [
        await client.query(box),
        await client.fetch(box, deliver="earliest", max_wait_ms=0),
        await client.fetch(box, group_name="g", deliver="earliest", max_wait_ms=0),
    ]
    found = [[dict(message.headers) for message in messages] for messages in ways]
    assert found[0] == found[1] == found[2]
    return found[0]


async def test_headers_come_back_as_they_were_sent(client, inbox):
    headers = {**TRACE, "x-text": 'snow ☃, 雪: "quoted" \\', "!#$%&'*+.^_`|~": "~", "one": "1"}
    await client.send(inbox, "a", headers=headers)
    await client.send(inbox, "b")
    await client.send(inbox, "c", headers={})

    assert await read(client, inbox) == [headers, {}, {}]


async def test_names_are_kept_in_lower_case_and_found_in_any(client, inbox):
    await client.send(inbox, "x", headers={"TraceParent": "00-1", "X-B": "2"})

    [message] = await client.query(inbox)
    assert message.headers == {"traceparent": "00-1", "x-b": "2"}
    assert message.headers["TRACEPARENT"] == "00-1"
    assert message.headers.get("X-b") == "2"
    assert "X-C" not in message.headers


async def test_whoever_speaks_nats_sends_and_reads_the_same(way, client, inbox):
    await way.ask(f"MSG.SEND.{inbox}", b"x", ("TraceParent", "00-1"), ("mq9-key", "k"), ("B", "2"))

    [item] = (await way.ask(f"MSG.QUERY.{inbox}"))["messages"]
    assert item["headers"] == {"traceparent": "00-1", "b": "2"}
    assert await read(client, inbox) == [item["headers"]]


async def test_what_belongs_to_nats_or_to_a_later_protocol_is_not_the_message_s(way, client, inbox):
    reply = await way.ask(
        f"MSG.SEND.{inbox}",
        b"x",
        ("Nats-Msg-Id", "1"),
        ("nats-expected-stream", "s"),
        ("mq9-new-in-2030", "y"),
        ("natsy", "mine"),
    )
    assert reply == {"error": "", "msg_id": 0}
    assert await read(client, inbox) == [{"natsy": "mine"}]


async def test_other_verbs_take_whatever_headers_come(way, inbox):
    for verb in (f"MSG.QUERY.{inbox}", "PUBLIC.LIST"):
        assert (await way.ask(verb, b"", ("a b", "x" * 1_000), ("a b", "y")))["error"] == ""


async def test_a_delayed_and_a_moved_message_keep_them(way, client, inbox):
    dead = await client.mailbox_create(name="dead")
    await client.send(inbox, "x", delay=5, headers=TRACE)
    await way.clock.advance(5)
    assert await read(client, inbox) == [TRACE]
    await client.move(inbox, "g", 0, to=dead)
    assert await read(client, dead) == [TRACE]


async def test_a_question_and_its_answer_have_headers(way, client, inbox):
    other = await way.client()
    asking = await way.begin(client.request(inbox, "?", timeout=60, headers={"n": "1"}))
    [question] = await other.fetch(inbox, group_name="g", deliver="earliest")
    assert question.headers == {"n": "1"}
    await other.reply(question, "!", headers={"n": "2"})
    assert (await asking).headers == {"n": "2"}


async def test_64_headers_of_8_kib_together_are_taken_and_not_one_byte_more(client, inbox):
    headers = {f"n{number:02}": "v" * 125 for number in range(64)}
    assert sum(len(name) + len(value) for name, value in headers.items()) == 8 * 1024
    await client.send(inbox, "x", headers=headers)
    assert await read(client, inbox) == [headers]

    with pytest.raises(InvalidRequest, match="headers: 8193 bytes are more than 8192"):
        await client.send(inbox, "x", headers={**headers, "n00": "v" * 126})
    with pytest.raises(InvalidRequest, match="headers: 65 headers are more than 64"):
        await client.send(inbox, "x", headers={f"{number}": "v" for number in range(65)})
    with pytest.raises(InvalidRequest, match="headers: 8262 bytes"):  # as UTF-8
        await client.send(inbox, "x", headers={f"n{number:02}": "雪" * 80 for number in range(34)})


NOT_HEADERS = [
    ({"": "x"}, "headers: ''"),
    ({"a b": "x"}, "headers: 'a b'"),
    ({"a:b": "x"}, "headers: 'a:b'"),
    ({"n\u00e4me": "x"}, "headers: 'n\u00e4me'"),
    ({"a(b": "x"}, "headers: 'a(b'"),
    ({"n" * 129: "x"}, "headers: 'nnn"),
    ({"mq9-key": "x"}, "headers: mq9-key is not free"),
    ({"MQ9-Anything": "x"}, "headers: mq9-anything is not free"),
    ({"Nats-Msg-Id": "x"}, "headers: nats-msg-id is not free"),
    ({"a": "1", "A": "2"}, "headers: a is repeated"),
    ({"a": ""}, "headers: a: '' has 0 characters, not 1 to 256"),
    ({"a": "x" * 257}, "headers: a: "),
    ({"a": " x"}, "headers: a: ' x' has spaces around it"),
    ({"a": "x\ny"}, "headers: a: 'x\\ny' has characters that are not printable"),
    ({"a": 5}, "headers: a: 5 is not a text"),
    ({5: "a"}, "headers: 5 "),
    ("a: b", "headers: 'a: b' is not a mapping"),
    ([("a", "b")], "headers: [('a', 'b')] is not a mapping"),
    (("a", "b"), "headers: ('a', 'b') is not a mapping"),
]


@only_read
async def test_headers_that_cannot_be_are_refused_before_anything_is_sent(
    client, inbox, requests_of
):
    asked = requests_of(client)
    for headers, told in NOT_HEADERS:
        with pytest.raises(InvalidRequest, match=re.escape(told)):
            await client.send(inbox, "x", headers=headers)
    assert asked == []


NOT_HEADERS_ON_THE_WIRE = [
    ([("x-a", "1"), ("X-A", "1")], "headers: x-a is repeated"),
    ([("x-a", "")], "headers: x-a: ''"),
    ([("x-a", "x" * 257)], "headers: x-a: "),
    ([("x-a", "x ")], "headers: x-a: 'x ' has spaces around it"),
    ([("x a", "1")], "headers: 'x a'"),
    ([(f"n{number}", "v") for number in range(65)], "headers: 65 headers"),
]


@only_read
async def test_the_broker_refuses_them_too_and_mends_nothing(way, inbox):
    before = way.state()
    for headers, told in NOT_HEADERS_ON_THE_WIRE:
        reply = await way.ask(f"MSG.SEND.{inbox}", b"x", *headers)
        assert reply["code"] == "invalid_request"
        assert told in reply["error"]
    assert way.state() == before


async def test_the_same_id_with_other_headers_is_the_same_message(client, inbox):
    for number in range(2):
        assert await client.send(inbox, "x", id="i", headers={"attempt": f"{number}"}) == 0
    assert await read(client, inbox) == [{"attempt": "0"}]


async def test_a_reply_stays_within_its_bound_whatever_the_headers(way, inbox):
    for _ in range(8):
        headers = [(f"n{number}", '"' * 100) for number in range(64)]
        await way.ask(f"MSG.SEND.{inbox}", b"x", *headers)
    reply = await way.handle(f"$mq9.AI.MSG.QUERY.{inbox}", b'{"max_bytes": 40000}', ())
    assert 20_000 < len(reply) < 40_000


def test_the_headers_of_a_message_cannot_be_changed_and_can_be_compared_and_copied():
    headers = MessageHeaders({"A": "1"})
    with pytest.raises(TypeError):
        headers["a"] = "2"
    message = Message(msg_id=0, payload=b"", create_time=0, headers=headers)
    for twin in (copy.deepcopy(message), pickle.loads(pickle.dumps(message))):  # noqa: S301  # our own
        assert twin == message
        assert hash(twin) == hash(message)
    assert headers == {"a": "1"}
    assert repr(headers) == "MessageHeaders({'a': '1'})"
