"""The parser: every frame, however it is cut, and nothing beyond the limits."""

import gc
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spoken import EXAMPLES, MAX_PAYLOAD, REFUSED
from strategies import encode, frames

from mq9.wire.parser import Parser, Ping, ProtocolError, Subscribe

pytestmark = pytest.mark.unmeasured

LINE, CONNECT = 4_096, 64 * 1024  # the most bytes of a line


def fed(data, cuts=(), **limits):
    """Feed bytes cut at these places; the frames and the error."""
    parser = Parser(**{"max_payload": MAX_PAYLOAD, **limits})
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        found += parser.feed(data[begin:end])
    return found, parser.error


def kept():
    """The bytes that the wire holds, by `tracemalloc`; not what other tests have left behind."""
    gc.collect()
    ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/mq9/wire/*")
    snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    return sum(one.size for one in snapshot.statistics("filename"))


def in_pieces(data, dice):
    """Feed bytes in pieces of random sizes."""
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(6)))
    return fed(data, cuts)


def test_frames_that_follow_each_other_are_the_same_wherever_they_are_split():
    data = b"".join(data for data, _ in EXAMPLES)
    expected = [frame for _, frame in EXAMPLES]
    for cut in range(len(data) + 1):
        assert fed(data, [cut]) == (expected, None), cut
    assert fed(data, range(1, len(data))) == (expected, None)


@given(st.lists(frames, max_size=8), st.randoms(use_true_random=False))
def test_what_is_written_is_read_again_in_pieces_of_any_size(written, dice):
    data = b"".join(map(encode, written))
    assert in_pieces(data, dice) == (written, None)


def test_what_cannot_be_understood_ends_it_wherever_it_is_split():
    for data, told in REFUSED:
        around = b"PING\r\n" + data + b"PONG\r\n"
        for cut in range(0, len(around) + 1, 1 + len(around) // 200):
            found, error = fed(around, [cut])
            assert (found, str(error)) == ([Ping()], told), (data, cut)
            assert isinstance(error, ProtocolError)


@given(
    st.lists(frames, max_size=4),
    st.binary(max_size=40),
    st.lists(frames, max_size=4),
    st.randoms(use_true_random=False),
)
def test_garbage_ends_what_is_read_and_takes_nothing_from_before_it(before, garbage, after, dice):
    data = b"".join(map(encode, before)) + b"\0" + garbage + b"\r\n" + b"".join(map(encode, after))
    found, error = in_pieces(data, dice)
    assert found == before
    assert isinstance(error, ProtocolError)


def test_after_an_error_nothing_is_read_or_kept():
    parser = Parser(MAX_PAYLOAD)
    parser.feed(b"NONSENSE\r\nPING\r\n")
    first = parser.error
    for _ in range(3):
        assert parser.feed(b"PING\r\n" * 1_000) == []
    assert parser.error is first
    assert parser.buffered == 0


@pytest.mark.parametrize(
    ("begin", "most"), [(b"SUB ", LINE), (b"", LINE), (b"CONNECT ", CONNECT), (b" \t", LINE)]
)
def test_a_line_that_does_not_end_is_given_up(begin, most):
    filling = begin + b"x" * (most - len(begin))
    for step in (1, 7, 1_000):
        parser = Parser(MAX_PAYLOAD)
        for index in range(0, len(filling), step):
            assert parser.feed(filling[index : index + step]) == []
        assert parser.error is None
        assert parser.buffered == most
        parser.feed(b"x")
        assert str(parser.error) == "maximum control line exceeded"
        assert parser.buffered == 0


def test_a_line_of_any_length_below_the_limit_is_taken():
    subject = "a" * (LINE - len("SUB  1\r"))
    assert fed(f"SUB {subject} 1\r\n".encode())[0] == [Subscribe(subject, None, "1")]
    assert str(fed(f"SUB {subject}a 1\r\n".encode())[1]).startswith("maximum control")


def test_headers_may_come_on_top_of_a_payload():
    block = b"NATS/1.0\r\na:1\r\n\r\n"
    data = b"HPUB a %d %d\r\n%b%b\r\n" % (len(block), len(block) + 500, block, bytes(500))
    whole = fed(data)
    assert fed(data, max_payload=500, max_message=500 + len(block)) == whole
    for limits in ({"max_payload": 499}, {"max_payload": 500, "max_message": 499 + len(block)}):
        found, error = fed(data, **{"max_message": MAX_PAYLOAD, **limits})
        assert (found, str(error)) == ([], "Maximum Payload Violation")
    assert fed(data, max_payload=500 + len(block)) == whole  # where nothing is said of the whole


def test_no_more_is_kept_than_one_message_and_its_line():
    parser = Parser(max_payload=100_000)
    parser.feed(b"PUB a 100000\r\n")
    assert parser.buffered == 0
    for _ in range(100):
        parser.feed(bytes(1_000))
    assert parser.buffered == 100_000
    assert len(parser.feed(b"\r\nPI")) == 1
    assert parser.buffered == 2


def test_a_megabyte_of_half_frames_leaves_nothing_behind():
    parser = Parser(max_payload=1_000)
    one = b"PUB a 1000\r\n" + bytes(1_000) + b"\r\n"
    tracemalloc.start()
    try:
        for _ in range(1_000):
            parser.feed(one[:700])
            parser.feed(one[700:])
        before = kept()
        for _ in range(1_000):
            parser.feed(one[:700])
            parser.feed(one[700:])
        after = kept()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000


def test_a_message_that_comes_byte_by_byte_is_not_looked_at_again_and_again(monkeypatch):
    """Its cost must grow with its length, not with the square of it; here, as bytes searched."""
    searched = 0

    class Counting(bytearray):
        def find(self, wanted, start=0):
            nonlocal searched
            searched += len(self) - start
            return super().find(wanted, start)

        def __iadd__(self, data):
            self.extend(data)
            return self

    monkeypatch.setattr("mq9.wire.parser.bytearray", Counting, raising=False)
    parser = Parser(MAX_PAYLOAD)
    for _ in range(4_000):
        parser.feed(b"x")
    assert searched < 3 * 4_000


# Bytes that nobody means


def mutated(data, dice):
    """Return bytes with some of them changed, left out or doubled."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 6)):
        place = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0:
                changed[place : place + 1] = bytes([dice.randrange(256)])
            case 1:
                del changed[place : place + dice.randrange(8)]
            case 2:
                changed[place:place] = changed[place : place + dice.randrange(20)]
            case 3:
                changed[place:place] = dice.choice([b"\r\n", b" ", b"\x00", b"9", b"PUB a 5\r\n"])
    return bytes(changed)


def fuzz(amount, dice):
    """Feed so many bytes of nonsense, cut at random; how many frames came of it."""
    count = fed_bytes = 0
    valid = b"".join(data for data, _ in EXAMPLES)
    while fed_bytes < amount:
        if dice.random() < 0.2:
            data = dice.randbytes(dice.randrange(1, 5_000))
        else:
            data = mutated(valid, dice)
        parser = Parser(MAX_PAYLOAD)
        place = 0
        while place < len(data):
            piece = data[place : place + dice.randrange(1, 400)]
            count += len(parser.feed(piece))
            assert parser.buffered <= max(MAX_PAYLOAD + 2, 64 * 1024)
            place += len(piece)
            fed_bytes += len(piece)
        assert parser.error is None or isinstance(parser.error, ProtocolError)
    return count


def test_nonsense_raises_nothing():
    assert fuzz(300_000, random.Random(1)) > 1_000


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ten_million_bytes_of_nonsense_raise_nothing_and_leave_nothing(scale):
    dice = random.Random(2)
    tracemalloc.start()
    try:
        fuzz(200_000, dice)
        before = kept()
        frames_found = fuzz(1_000_000 * scale, dice)
        after = kept()
    finally:
        tracemalloc.stop()
    assert frames_found > 5_000
    assert after - before < 100_000


@given(st.binary(max_size=400), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_any_bytes_mean_the_same_in_pieces_of_any_size(data, dice):
    frames_found, error = fed(data)
    again, same = in_pieces(data, dice)
    assert again == frames_found
    assert str(same) == str(error)
