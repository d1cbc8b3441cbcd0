"""The block of headers: read, refused; and what a server says of it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from strategies import block, headers

from mq9.wire import encoder
from mq9.wire import headers as blocks


@given(headers)
def test_what_is_written_is_read_again(given_headers):
    assert blocks.decode(block(given_headers)) == given_headers


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        (["a:1"], [("a", "1")]),
        (["a: 1"], [("a", "1")]),
        (["a:  1 "], [("a", " 1 ")]),  # one space is the writer's, the rest is the value's
        (["A: 1", "a: 2", "A: 3"], [("A", "1"), ("a", "2"), ("A", "3")]),
        (["a:"], [("a", "")]),
        (["a: b: c"], [("a", "b: c")]),
        ([], []),
    ],
)
def test_a_value_is_what_follows_the_colon_and_one_space(lines, read):
    for first in ("NATS/1.0", "NATS/1.0 503", "NATS/1.0 100 Idle Heartbeat"):
        written = "\r\n".join([first, *lines, "", ""]).encode()
        assert blocks.decode(written) == tuple(read)


def test_no_block_holds_no_headers():
    assert blocks.decode(b"") == ()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (b"NATS/1.0", "no block"),
        (b"NATS/1.0\r\n", "no block"),
        (b"NATS/1.01\r\n\r\n", "no block"),
        (b"nats/1.0\r\n\r\n", "no block"),
        (b"NATS/1.0\r\na:1\r\n", "no block"),
        (b"NATS/1.0\r\n\r\na:1\r\n\r\n", "'' is not one"),
        (b"NATS/1.0\r\nabc\r\n\r\n", "'abc' is not one"),
        (b"NATS/1.0\r\n:abc\r\n\r\n", "':abc' is not one"),
        (b"NATS/1.0\r\na: b\r\n  c: d\r\n\r\n", "'  c: d' is not one"),
        (b"NATS/1.0\r\na:1\n\r\n\r\n", "is not one"),
        (b"NATS/1.0\r\na:1\rb:2\r\n\r\n", "is not one"),
        (b"NATS/1.0\r\na:\xff\r\n\r\n", "UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(written, told):
    with pytest.raises(ValueError, match=told):
        blocks.decode(written)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(ValueError):
        read = blocks.decode(b"NATS/1.0\r\n" + data)
        assert blocks.decode(block(read)) == read


def test_that_nobody_listens_is_a_status():
    told = encoder.no_responders("in", "7", "a.b")
    assert told == b"HMSG in 7 35 35\r\nNATS/1.0 503\r\nNats-Subject: a.b\r\n\r\n\r\n"


async def test_nats_py_reads_a_block_as_we_do():
    read_block = Client()._process_headers  # noqa: SLF001  # nats-py shows it nowhere else
    written = (("Name", "värde"), ("mq9-tags", "a,b"))
    assert await read_block(block(written)) == dict(written)
    _, _, status = encoder.no_responders("in", "7", "a.b").partition(b"NATS/1.0")
    read = await read_block(b"NATS/1.0" + status.removesuffix(b"\r\n"))
    assert (read["Status"], read["Nats-Subject"]) == ("503", "a.b")


def test_an_error_is_one_line_without_what_would_end_it():
    assert encoder.error("it's\r\nbad\x1b") == b"-ERR 'itsbad'\r\n"
