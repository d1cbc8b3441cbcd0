"""What a server sends: every frame, however it is cut, and nothing beyond the limits."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats_server import NatsServer
from strategies import headers, subjects, words

from mq9.wire import encoder, to_server
from mq9.wire.from_server import Info, Message, Ok, Refusal, ServerParser
from mq9.wire.headers import decode
from mq9.wire.headers import encode as encode_headers
from mq9.wire.parser import Parser, Ping, Pong, ProtocolError, Publish, Subscribe, Unsubscribe

pytestmark = pytest.mark.unmeasured

MOST = 1_000
LINE, INFO = 4_096, 64 * 1024  # the most bytes of a line

# What a server may write, and what it means.
EXAMPLES = [
    (b"PING\r\n", Ping()),
    (b"pong \r\n", Pong()),
    (b"+OK\r\n", Ok()),
    (b"-ERR 'Stale Connection'\r\n", Refusal("Stale Connection")),
    (b"-err  Authorization Violation \r\n", Refusal("Authorization Violation")),
    (b"-ERR 'that''s it'\n", Refusal("that''s it")),
    (b"-ERR\r\n", Refusal("")),
    (
        b'INFO {"server_id":"\xc3\xbc","max_payload":7}\r\n',
        Info({"server_id": "ü", "max_payload": 7}),
    ),
    (b'info\t{"ldm":null,"connect_urls":["a:1"]} \n', Info({"connect_urls": ["a:1"]})),
    (b"MSG a 1 0\r\n\r\n", Message(b"a", b"", b"")),
    (b"MSG a.b 12 5\r\nhello\r\n", Message(b"a.b", b"", b"hello")),
    (b"MSG a 1 re.ply 6\r\nPING\r\n\r\n", Message(b"a", b"", b"PING\r\n")),
    (b"msg  a\t1 \t 3 \n\x00\xff\n\r\n", Message(b"a", b"", b"\x00\xff\n")),
    (b"MSG \xff\xfe 0 1\r\n!\r\n", Message(b"\xff\xfe", b"", b"!")),
    (b"MSG a 1 00002\r\n\r\n\r\n", Message(b"a", b"", b"\r\n")),
    (
        b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
        Message(b"a", b"NATS/1.0 503\r\n\r\n", b""),
    ),
    (
        b"hmsg a 1 r 12  13\nNATS/1.0\r\n\r\n!\r\n",
        Message(b"a", b"NATS/1.0\r\n\r\n", b"!"),
    ),
    (b"HMSG a 1 0 1\r\n!\r\n", Message(b"a", b"", b"!")),
]

# What none may write.
REFUSED = [
    *(
        b"\r\n",
        b"HELLO\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"PUB a 0\r\n\r\n",
        b"\x16\x03\x01\n",
    ),
    *(b"INFO\r\n", b"INFO []\r\n", b"INFO {\r\n", b'INFO {"max_payload":"7"}\r\n'),
    *(b'INFO {"max_payload":true}\r\n', b'INFO {"connect_urls":"a:1"}\r\n', b'INFO {"ldm":1}\r\n'),
    *(b"MSG\r\n", b"MSG a\r\n", b"MSG a 1\r\n", b"MSG a 1 r s 0\r\n\r\n", b"MSG a 1 x\r\n"),
    *(b"MSG a 1 -1\r\n", b"MSG a 1 +1\r\n!\r\n", b"MSG a 1 12345678901\r\n", b"MSG a 1 1001\r\n"),
    *(
        b"MSG a 1 \xc2\xb2\r\n",
        b"MSG a 1 1\r\n!!\r\n",
        b"MSG a 1 1\r\n!\n\r",
        b"MSG a 1 1\n!PING\r\n",
    ),
    *(
        b"HMSG a 1 5\r\n",
        b"HMSG a 1 2 1\r\n!\r\n",
        b"HMSG a 1 x 1\r\n!\r\n",
        b"HMSG a 1 1 1001\r\n",
    ),
    *(b"HMSG a 1 r s 0 0\r\n\r\n", b"MSG " + b"a" * LINE + b" 1 0\r\n\r\n", b"PING" + b" " * LINE),
]


def fed(data, cuts=(), most=MOST):
    """Feed bytes cut at these places; the frames and the error."""
    parser = ServerParser(most)
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        found += parser.feed(data[begin:end])
    return found, parser.error


def in_pieces(data, dice, most=MOST):
    """Feed bytes in pieces of random sizes."""
    return fed(data, sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(6))), most)


def test_frames_that_follow_each_other_are_the_same_wherever_they_are_split():
    data = b"".join(data for data, _ in EXAMPLES)
    expected = [frame for _, frame in EXAMPLES]
    for cut in range(len(data) + 1):
        assert fed(data, [cut]) == (expected, None), cut
    assert fed(data, range(1, len(data))) == (expected, None)


@pytest.mark.parametrize("data", REFUSED)
def test_what_cannot_be_understood_ends_it_wherever_it_is_split(data):
    around = b"PING\r\n" + data + b"PONG\r\n"
    texts = set()
    for cut in range(0, len(around) + 1, 1 + len(around) // 200):
        found, error = fed(around, [cut])
        assert found == [Ping()], cut
        assert isinstance(error, ProtocolError)
        texts.add(str(error))
    assert len(texts) == 1


def test_after_an_error_nothing_is_read_or_kept():
    parser = ServerParser()
    parser.feed(b"MSG a 1 5\r\nhel")
    parser.feed(b"lo, and more of it\r\n")
    first = parser.error
    assert first is not None
    assert parser.feed(b"PING\r\n") == []
    assert (parser.error, parser.buffered) == (first, 0)


@pytest.mark.parametrize(("begin", "most"), [(b"MSG ", LINE), (b"x", LINE), (b"INFO ", INFO)])
def test_a_line_that_does_not_end_is_given_up(begin, most):
    filling = begin + b"x" * (most + 1 - len(begin))
    for step in (7, 1_000):
        parser = ServerParser()
        for index in range(0, len(filling), step):
            assert parser.feed(filling[index : index + step]) == []
        assert (parser.error, parser.buffered) == (None, most + 1)
        parser.feed(b"x")
        assert str(parser.error) == "a line that is too long"
        assert parser.buffered == 0


def test_a_long_message_is_put_together_once():
    """Its cost must grow with its length, not with the square of it; here, as reads."""
    reads = 0

    class Counting(ServerParser):
        def _read(self, frames, data):
            nonlocal reads
            reads += 1
            return super()._read(frames, data)

    parser = Counting()
    body = bytes(1_000_000)
    data = b"MSG a 1 %d\r\n%b\r\nPING\r\nMSG a 1 3\r" % (len(body), body)
    found = []
    for index in range(0, len(data), 1_000):
        found += parser.feed(data[index : index + 1_000])
    assert found == [Message(b"a", b"", body), Ping()]
    assert reads == 2
    assert parser.feed(b"\nabc\r\n") == [Message(b"a", b"", b"abc")]


@given(st.lists(st.tuples(subjects, words, st.none() | subjects, headers, st.binary(max_size=99))))
def test_what_our_server_writes_is_read_again(messages):
    data, expected = b"", []
    for subject, sid, reply, given_headers, payload in messages:
        block = encode_headers(given_headers) if given_headers else b""
        data += encoder.message(subject, sid, reply, len(block), len(payload))
        data += encoder.body(block, payload)
        expected.append(Message(subject.encode(), block, payload))
    assert fed(data, most=10_000) == (expected, None)


@given(subjects, st.just("") | subjects, headers, st.binary(max_size=99), st.integers(1, 10**9))
def test_what_we_write_our_server_reads(subject, reply, given_headers, payload, sid):
    block = encode_headers(given_headers) if given_headers else b""
    data = to_server.publish(subject.encode(), reply.encode(), block, payload)
    data += to_server.subscribe(subject.encode(), sid)
    data += to_server.unsubscribe(sid) + to_server.unsubscribe(sid, 1)
    parser = Parser(MOST, 10_000)
    assert parser.feed(data) == [
        Publish(subject, reply or None, block, payload),
        Subscribe(subject, None, str(sid)),
        Unsubscribe(str(sid), None),
        Unsubscribe(str(sid), 1),
    ]


def mutated(data, dice):
    """Return bytes with some of them changed, left out or doubled."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 6)):
        place = dice.randrange(len(changed) + 1)
        end = place + dice.randrange(8)
        changed[place:end] = dice.choice([b"", b"\r\n", b" ", b"\x00", b"9", b"MSG a 1 5\r\n"])
    return bytes(changed)


def test_nonsense_raises_nothing_and_means_the_same_however_it_is_cut():
    dice, valid, count = random.Random(1), b"".join(data for data, _ in EXAMPLES), 0
    for _ in range(2_000):
        data = mutated(valid, dice)
        found, error = fed(data)
        count += len(found)
        again, same = in_pieces(data, dice)
        assert (again, str(same)) == (found, str(error))
    assert count > 2_000


@given(st.binary(max_size=400), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_any_bytes_mean_the_same_in_pieces_of_any_size(data, dice):
    found, error = fed(data)
    again, same = in_pieces(data, dice)
    assert (again, str(same)) == (found, str(error))


# Beside another reader of the same bytes


class Recording(Client):
    """nats-py's client, which keeps the bytes that it reads."""

    def __init__(self):
        super().__init__()
        self.heard = b""

    def record(self):
        """Keep all that comes from now on."""
        parse = self._ps.parse

        async def keep(data=b""):
            self.heard += bytes(data)
            return await parse(data)

        self._ps.parse = keep


@pytest.mark.programs
async def test_of_a_nats_servers_bytes_we_read_what_nats_py_reads(tmp_path):
    dice = random.Random(3)
    with NatsServer(tmp_path / "server") as server:
        client = Recording()
        await client.connect(server.url)
        client.record()
        heard = await client.subscribe("a.>")
        for number in range(200):
            payload = dice.randbytes(dice.choice([0, 1, 30, 3_000, 100_000]))
            head = {"Name": f"{number}"} if dice.random() < 0.5 else None
            reply = f"r.{number}" if dice.random() < 0.5 else ""
            await client.publish(f"a.{number}", payload, reply, head)
        with pytest.raises(NoRespondersError):
            await client.request("nobody")
        theirs = [await heard.next_msg() for _ in range(200)]
        await client.close()
    frames, error = in_pieces(client.heard, dice, 200_000)
    assert error is None
    *ours, nobody = (one for one in frames if isinstance(one, Message))
    assert [(one.subject.decode(), one.payload, dict(decode(one.block))) for one in ours] == [
        (one.subject, one.data, one.headers or {}) for one in theirs
    ]
    assert nobody.block.startswith(b"NATS/1.0 503")
