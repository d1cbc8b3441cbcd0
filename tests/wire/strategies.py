"""Frames that a client may send, and their bytes."""

import orjson
from hypothesis import strategies as st

from mq9.wire.parser import Connect, Ping, Pong, Publish, Subscribe, Unsubscribe


def encode(frame):
    """Write a frame as a client does."""
    match frame:
        case Connect(options):
            return b"CONNECT " + orjson.dumps(options) + b"\r\n"
        case Ping():
            return b"PING\r\n"
        case Pong():
            return b"PONG\r\n"
        case Subscribe(subject, queue, sid):
            words = ("SUB", subject, queue, sid)
        case Unsubscribe(sid, most):
            words = ("UNSUB", sid, None if most is None else str(most))
        case Publish(subject, reply, b"", payload):
            return _line("PUB", subject, reply, str(len(payload))) + payload + b"\r\n"
        case Publish(subject, reply, block, payload):
            sizes = (str(len(block)), str(len(block) + len(payload)))
            return _line("HPUB", subject, reply, *sizes) + block + payload + b"\r\n"
    return _line(*words)


def _line(*words):
    line = " ".join(word for word in words if word is not None)
    return line.encode(errors="surrogateescape") + b"\r\n"


words = st.text(
    st.characters(blacklist_categories=("C", "Z"), blacklist_characters=".*>"),
    min_size=1,
    max_size=8,
)
subjects = st.lists(words, min_size=1, max_size=5).map(".".join)
patterns = st.builds(
    lambda tokens, rest: ".".join([*tokens, ">"] if rest else tokens),
    st.lists(st.one_of(words, st.just("*")), min_size=1, max_size=5),
    st.booleans(),
)
_printed = st.characters(blacklist_categories=("C", "Z"), blacklist_characters=":")
_names = st.text(_printed, min_size=1, max_size=12)
_values = st.text(st.characters(blacklist_categories=("C",)), max_size=20).filter(
    lambda value: not value.startswith(" ")
)
headers = st.lists(st.tuples(_names, _values), max_size=4).map(tuple)


def block(headers):
    """Write headers as a client does."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"NATS/1.0\r\n{lines}\r\n".encode()


frames = st.one_of(
    st.builds(
        Publish,
        subjects,
        st.one_of(st.none(), subjects),
        st.one_of(headers.map(block), st.binary(max_size=40)),
        st.binary(max_size=200),
    ),
    st.builds(Subscribe, patterns, st.one_of(st.none(), words), words),
    st.builds(Unsubscribe, words, st.one_of(st.none(), st.integers(0, 10**9))),
    st.builds(Connect, st.dictionaries(st.text("abc", max_size=3), st.booleans(), max_size=3)),
    st.just(Ping()),
    st.just(Pong()),
)
