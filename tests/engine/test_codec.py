"""Encoded commands are read unchanged by this version and later ones, or refused."""

import contextlib
import dataclasses
import tracemalloc
import zlib

import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mq9 import errors
from mq9.engine import codec, machine
from mq9.engine.commands import (
    Actor,
    Advance,
    Call,
    ClaimNames,
    NoteRead,
    PlainSend,
    SendBatch,
    Sweep,
)
from mq9.engine.shapes import NEEDED, Record
from mq9.models import Priority
from mq9.protocol import requests

from . import codec_corpus
from .codec_examples import CALLS, REQUESTS

HEAD = 5  # bytes before the body
CORPUS = codec_corpus.load()
NAMES = sorted(
    {field.name for record in codec_corpus.RECORDS.values() for field in record.fields}
    | set(codec_corpus.NAMES.values())
)


fuzzed = settings(deadline=None, max_examples=200)


def framed(plain, version=1):
    """Return the frame that another writer would write."""
    body = ormsgpack.packb(plain)
    return bytes([version]) + zlib.crc32(body, version).to_bytes(4) + body


def plain_of(data):
    """Return the value in a frame."""
    return ormsgpack.unpackb(data[HEAD:])


def test_every_command_has_its_name():
    nameless = machine.COMMANDS.keys() - {record.kind for record in codec.COMMANDS.values()}
    assert not nameless, "give these a name and their fields in mq9/engine/codec.py"


@pytest.mark.parametrize("record", codec_corpus.RECORDS.values(), ids=lambda one: one.kind.__name__)
def test_every_field_is_written(record):
    names = {field.name for field in record.fields}
    assert len(names) == len(record.fields)
    assert names == {field.name for field in dataclasses.fields(record.kind)}


@pytest.mark.parametrize(
    ("record", "examples"),
    [
        *((codec.COMMANDS[name], examples) for name, examples in REQUESTS.items()),
        (codec.CALL, CALLS),
    ],
    ids=lambda one: one.kind.__name__ if isinstance(one, Record) else "",
)
def test_the_examples_have_every_field_and_leave_out_every_one(record, examples):
    written = [set(record.write(example)) for example in examples]
    assert set.union(*written) == {field.name for field in record.fields}
    assert set.intersection(*written) == {
        field.name for field in record.fields if field.default is NEEDED
    }


def test_there_are_examples_of_everything():
    assert REQUESTS.keys() == codec.COMMANDS.keys()


@pytest.mark.parametrize("one", CALLS)
def test_it_is_read_as_it_was_written(one):
    assert repr(codec.decode_call(codec.encode_call(one))) == repr(one)  # types included


@pytest.mark.parametrize("entry", CORPUS, ids=range(1, len(CORPUS) + 1))
def test_every_version_is_read_to_what_was_written(entry):
    assert codec_corpus.is_described(entry.read(), entry.holds)


@pytest.mark.parametrize("entry", CORPUS, ids=range(1, len(CORPUS) + 1))
def test_a_version_has_one_format(entry):
    if entry.version == codec.VERSION:
        changed = "what is written changes with the version alone, which is the first byte"
        assert codec.encode_call(entry.read()) == entry.data, changed


def test_the_corpus_has_all_examples():
    missing = {one.data for one in codec_corpus.examples()} - {one.data for one in CORPUS}
    assert not missing, "run python -m tests.engine.codec_corpus"


def test_equal_calls_have_equal_bytes():
    headers = (("a", "1"), ("b", "2"))
    sent = requests.Send(priority=Priority.URGENT, tags=("a", "b"), ttl=60, headers=headers)
    same = requests.Send(headers=dict(headers), ttl=60, tags=["a", "b", "a"], priority="urgent")
    one, other = Call(sent, "box", token="t"), Call(same, token="t", address="box", payload=b"")
    assert one == other
    assert codec.encode_call(one) == codec.encode_call(other)


def test_the_sends_of_a_batch_are_written_as_by_themselves():
    plain, tagged = requests.Send(), requests.Send(tags=("t",), sender="ada", ttl=3)
    sends = [
        PlainSend(options, id_, payload)
        for options in (plain, tagged, plain)
        for id_ in (None, "1", "2")
        for payload in (b"", b"x", b"y")
    ]
    batch = Call(SendBatch(), "box", Actor("ada"), "consumer")
    assert batch.request.add(sends) == len(sends)
    assert codec.encode_sends(batch) == [codec.encode_call(one.call(batch)) for one in sends]


def test_a_payload_is_not_made_longer():
    short, long = (
        codec.encode_call(Call(requests.Send(), "box", payload=one))
        for one in (b"", bytes(1_000_000))
    )
    assert len(long) - len(short) < 1_000_000 + 20


@fuzzed
@given(st.sampled_from(CORPUS), st.data())
def test_damage_is_noticed(entry, data):
    damaged = bytearray(entry.data)
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(codec.DamagedEntry):
        codec.decode_call(bytes(damaged))
    with pytest.raises(codec.DamagedEntry):
        codec.decode_call(entry.data[:at])


@pytest.mark.parametrize(
    ("plain", "named"),
    [
        ({"request": {"explode": {}}}, "the kind 'explode' is not known"),
        ({"request": {"send": {"colour": "red"}}}, "send: the field 'colour' is not known"),
        ({"request": {"send": {"priority": "low"}}}, "priority: the word 'low' is not known"),
        ({"request": {"send": {"ttl": 1.0}}}, "ttl: not a whole number but of type float"),
        ({"request": {"send": {"ttl": True}}}, "ttl: not a whole number but of type bool"),
        ({"request": {"send": {"ttl": 2**63}}}, "ttl: a whole number is not of 64 bits"),
        ({"request": {"send": {"headers": [["a"]]}}}, "headers: an array of 1 is not a pair"),
        ({"request": {"ack": {"msg_id": 1}}}, "ack: the field 'group_name' is missing"),
        (
            {"request": {"delete": {"msg_id": None}}},
            "msg_id: not a whole number but of type NoneType",
        ),
        ({"request": {"send": {}}, "payload": "text"}, "payload: not bytes but of type str"),
        ({"request": {"send": {}}, "colour": 1}, "the field 'colour' is not known"),
        ({"request": {"send": {}}, "actor": {"age": 1}}, "actor: the field 'age' is not known"),
        ({"request": {"send": {"tags": "a"}}}, "tags: not an array but of type str"),
        ({"request": "send"}, "request: not a map of a name to fields but of type str"),
        ({"request": {}}, "request: not a map of a name to fields but of type dict"),
        ({"address": "box"}, "the field 'request' is missing"),
        (7, "not a map of fields but of type int"),
    ],
)
def test_what_a_later_release_may_write_is_refused_by_name(plain, named):
    with pytest.raises(codec.UnknownEntry, match=named):
        codec.decode_call(framed(plain))


def test_a_later_version_is_refused_by_its_number():
    with pytest.raises(codec.UnknownEntry, match="version 2 is not known, only up to 1"):
        codec.decode_call(framed({"request": {"send": {}}}, version=2))


def test_a_query_is_no_command():
    with pytest.raises(ValueError, match="request: Status has no name here"):
        codec.encode_call(Call(requests.Status(), "box"))


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        (Call(Advance(), payload=bytearray(b"a")), "payload: not bytes but of type bytearray"),
        (Call(Advance(), "\ud800"), "surrogates"),
        (Call(Advance(), as_text=1), "as_text: not true or false but of type int"),
        (Call(Advance(), default_consumer=1), "default_consumer: not a text but of type int"),
        (Call(Advance(), actor="a"), "actor: not of the class Actor but of type str"),
        (Call(Sweep(most=2**63)), "request: sweep: most: a whole number is not of 64 bits"),
        (Call(NoteRead(group_name="g", cursors=[1])), "cursors: not a tuple but of type list"),
        (Call(ClaimNames(names=(["a", "b"],), addresses=())), "not a pair but of type list"),
    ],
)
def test_a_call_that_could_not_be_read_is_not_written(call, wrong):
    with pytest.raises(ValueError, match=wrong):
        codec.encode_call(call)


def test_what_was_accepted_is_read_although_it_would_be_refused_today():
    ttl = 10**15
    with pytest.raises(errors.InvalidRequest):
        requests.Send(ttl=ttl)
    assert codec.decode_call(framed({"request": {"send": {"ttl": ttl}}})).request.ttl == ttl


def reads_or_refuses(data):
    """Decode data; the result must survive another round trip, or the error be allowed."""
    with contextlib.suppress(codec.UnreadableEntry):
        one = codec.decode_call(data)
        assert repr(codec.decode_call(codec.encode_call(one))) == repr(one)


@fuzzed
@given(st.binary())
def test_any_bytes(data):
    reads_or_refuses(data)


@fuzzed
@given(st.binary())
def test_any_bytes_in_a_frame(body):
    reads_or_refuses(bytes([1]) + zlib.crc32(body, 1).to_bytes(4) + body)


_NAMES = st.sampled_from(NAMES) | st.text(max_size=3)
_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary()
    | _NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
)


@fuzzed
@given(_PLAIN)
def test_anything_in_a_frame(plain):
    reads_or_refuses(framed(plain))


@fuzzed
@given(st.sampled_from(CORPUS), st.data())
def test_an_entry_that_somebody_else_changed(entry, data):
    reads_or_refuses(framed(changed(plain_of(entry.data), data)))


def changed(plain, data):
    """Return a MessagePack value with one part replaced, added or removed."""
    if not isinstance(plain, (dict, list)) or not plain or data.draw(st.booleans()):
        return data.draw(_PLAIN)
    one = plain.copy()
    at = data.draw(st.sampled_from(sorted(one) if isinstance(one, dict) else range(len(one))))
    match data.draw(st.sampled_from(["inside", "inside", "remove", "add"])):
        case "inside":
            one[at] = changed(one[at], data)
        case "remove":
            del one[at]
        case "add" if isinstance(one, dict):
            one[data.draw(_NAMES)] = data.draw(_PLAIN)
        case "add":
            one.insert(at, data.draw(_PLAIN))
    return one


@pytest.mark.parametrize("claim", [b"\xdd", b"\xdf", b"\xc6", b"\xdb"])
def test_a_length_that_is_claimed_takes_no_memory(claim):
    body = claim + b"\xff\xff\xff\xff"
    tracemalloc.start()
    try:
        reads_or_refuses(bytes([1]) + zlib.crc32(body, 1).to_bytes(4) + body)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_deep_nesting_is_refused():
    body = b"\x91" * 1_000_000
    with pytest.raises(codec.UnknownEntry, match="ecursion limit"):
        codec.decode_call(bytes([1]) + zlib.crc32(body, 1).to_bytes(4) + body)
