"""The block of headers: written, read, refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from strategies import headers

from mq9.wire import encoder
from mq9.wire import headers as blocks
from mq9.wire.frames import ProtocolError


@given(headers)
def test_what_is_written_is_read_again(given_headers):
    assert blocks.decode(blocks.encode(given_headers)) == given_headers


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
    block = "\r\n".join(["NATS/1.0", *lines, "", ""]).encode()
    assert blocks.decode(block) == tuple(read)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"NATS/1.0",
        b"NATS/1.0\r\n",
        b"NATS/1.01\r\n\r\n",
        b"nats/1.0\r\n\r\n",
        b"NATS/1.0\r\na:1\r\n",
        b"NATS/1.0\r\n\r\na:1\r\n\r\n",
        b"NATS/1.0\r\na:1\n\r\n\r\n",
        b"NATS/1.0\r\na:1\rb:2\r\n\r\n",
    ],
)
def test_what_is_no_block_is_refused(block):
    with pytest.raises(ProtocolError, match="Bad Header"):
        blocks.decode(block)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_block_or_refused(data):
    with contextlib.suppress(ProtocolError):
        read = blocks.decode(b"NATS/1.0" + data)
        assert blocks.decode(blocks.encode(read)) == read  # so it can be handed on


@pytest.mark.parametrize(
    "header", [("", "x"), ("a:b", "x"), ("a\r\nb", "x"), ("a", "x\r\nc: d"), ("a", "x\n")]
)
def test_what_would_be_two_headers_is_not_written(header):
    with pytest.raises(ValueError, match="not one header"):
        encoder.message("s", "1", None, [header], b"")


def test_that_nobody_listens_is_a_status():
    assert encoder.no_responders("in", "7") == b"HMSG in 7 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"


async def test_nats_py_reads_a_block_as_we_do():
    client = Client()
    written = (("Name", "värde"), ("mq9-tags", "a,b"))
    assert await client._process_headers(blocks.encode(written)) == dict(written)
    status = await client._process_headers(blocks.encode((), "503"))
    assert status["Status"] == "503"


def test_an_error_is_one_line_without_what_would_end_it():
    assert encoder.error("it's\r\nbad\x1b") == b"-ERR 'itsbad'\r\n"
