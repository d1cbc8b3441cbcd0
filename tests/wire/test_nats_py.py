"""nats-py and our wire understand each other."""

import asyncio

import nats
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.protocol.parser import Parser as NatsParser
from strategies import block, subjects

from mq9.wire import encoder
from mq9.wire.parser import Connect, Parser, Ping, Publish, Subscribe, Unsubscribe


class Reader(Client):
    """nats-py's parser, with what it found."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.pings = 0
        self.others = []

    async def _process_msg(self, sid, subject, reply, data, headers):
        read = await self._process_headers(headers)
        self.found.append((sid, subject.decode(), reply.decode() or None, read or {}, bytes(data)))

    async def _process_ping(self):
        self.pings += 1

    async def _process_pong(self):
        self.others.append("PONG")

    async def _process_err(self, text):
        self.others.append(text)

    async def _process_info(self, fields, initial_connection=False):
        self.others.append(fields)


simple = st.text("abc", min_size=1, max_size=5)  # what is special about values is not asked here


@given(
    st.lists(
        st.tuples(
            subjects,
            st.one_of(st.none(), subjects),
            st.dictionaries(simple, simple, max_size=3),
            st.binary(max_size=100),
        ),
        max_size=5,
    ),
    st.integers(1, 64),
)
@settings(max_examples=50)
def test_nats_py_reads_what_we_write(messages, step):
    data = b""
    for subject, reply, given_headers, payload in messages:
        written = block(given_headers.items()) if given_headers else b""
        data += encoder.message(subject, "7", reply, len(written), len(payload))
        data += encoder.body(written, payload) + encoder.PING

    async def read():
        reader = Reader()
        parser = NatsParser(reader)
        for place in range(0, len(data), step):
            await parser.parse(data[place : place + step])
        return reader

    reader = asyncio.run(read())
    assert reader.pings == len(messages)
    assert reader.found == [(7, *message) for message in messages]


@pytest.mark.parametrize("step", [1, 3, 1_000])
async def test_nats_py_reads_whatever_else_we_write(step):
    fields = {"server_name": "mq9", "max_payload": 1_048_576}
    told = encoder.info(fields) + encoder.OK + encoder.PONG + encoder.error("Stale Connection")
    reader = Reader()
    parser = NatsParser(reader)
    for place in range(0, len(told), step):
        await parser.parse(told[place : place + step])
    assert reader.others == [fields, "PONG", "'stale connection'"]


async def test_we_read_what_nats_py_writes():
    said = bytearray()

    async def listen(reader, writer):
        writer.write(encoder.info({"headers": True, "max_payload": 1_000_000, "version": "2.11.0"}))
        while data := await reader.read(65_536):
            said.extend(data)
            if b"PING\r\n" in data:
                writer.write(encoder.PONG)
        writer.close()

    listening = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = await nats.connect(f"nats://127.0.0.1:{port}", name="reader", allow_reconnect=False)
    subscription = await client.subscribe("a.*", queue="q")
    await client.publish("a.b", b"\x00\r\n", reply="in.1", headers={"Name": "x", "Other": "y z"})
    await client.publish("c", b"plain")
    await subscription.unsubscribe(limit=3)
    await client.flush()
    await client.close()
    listening.close()
    await listening.wait_closed()

    parser = Parser(1_000_000)
    connect, *rest = parser.feed(bytes(said))
    assert parser.error is None
    assert isinstance(connect, Connect)
    assert connect.options["name"] == "reader"
    assert Ping() in rest
    assert [frame for frame in rest if frame != Ping()] == [
        Subscribe("a.*", "q", "1"),
        Publish("a.b", "in.1", b"NATS/1.0\r\nName: x\r\nOther: y z\r\n\r\n", b"\x00\r\n"),
        Publish("c", None, b"", b"plain"),
        Unsubscribe("1", 3),
    ]
