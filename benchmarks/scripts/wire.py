"""How fast are the parser and the encoder? Frames and megabytes a second, and nats-py's parser.

Run it with `.venv/bin/python benchmarks/scripts/wire.py`. It takes some seconds, opens no socket:
bytes are fed in pieces as large as the server reads at once. nats-py has only the reading half
of a client, so that it is given the MSG of the same message; its callbacks do nothing.
"""

import asyncio
import statistics
import time

from nats.protocol.parser import Parser as NatsPyParser
from rich.console import Console
from rich.table import Table

from mq9.wire import encoder, headers
from mq9.wire.parser import Parser

PIECE = 16 * 1024
MAX_PAYLOAD = 1024 * 1024
ROUNDS = 5
SUBJECT = "$mq9.AI.MSG.SEND.inbox"
REPLY = "_INBOX.UOKeBdYVSQvVgfVDYsVlpI.UOKeBdYVSQvVgfVDYsVlzz"
HEADERS = (("mq9-priority", "urgent"), ("mq9-id", "7d1c9f8ab24e4a0f"))
CASES = [  # the name of a payload, its bytes, and how many messages of it
    ("100 B", 100, 20_000),
    ("10 kB", 10_000, 4_000),
    ("1 MB", 1_000_000, 60),
]


def pieces(data):
    return [data[begin : begin + PIECE] for begin in range(0, len(data), PIECE)]


def ours(given, count):
    parser = Parser(MAX_PAYLOAD)
    read = sum(len(parser.feed(piece)) for piece in given)
    assert (read, parser.error) == (count, None)  # noqa: S101  # else it measures nothing


class Silent:
    """Stands where nats-py's client does, and counts."""

    def __init__(self):
        self.read = 0

    async def _process_msg(self, _sid, _subject, _reply, _payload, _headers):
        self.read += 1


def nats_py(given, count):
    client = Silent()
    parser = NatsPyParser(client)

    async def read():
        for piece in given:
            await parser.parse(piece)

    asyncio.run(read())
    assert client.read == count  # noqa: S101  # else it measures nothing


def message(block, payload):
    """Return the MSG or HMSG of a message."""
    line = encoder.message(SUBJECT, "1", REPLY, len(block), len(payload))
    return line + encoder.body(block, payload)


def encoding(block, payload, count):
    for _ in range(count):
        message(block, payload)


def rate(work, *args, count):
    """Return how many of them a second, the median of some rounds."""
    rates = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work(*args, count)
        rates.append(count / (time.perf_counter() - begin))
    return statistics.median(rates)


def publish(block, payload):
    """Return the PUB or HPUB of a message, which differs from the MSG in its first line only."""
    line, end, rest = message(block, payload).partition(b"\r\n")
    verb, subject, _sid, *others = line.split(b" ")
    return b" ".join([verb.replace(b"MSG", b"PUB"), subject, *others]) + end + rest


def main():
    table = Table("message", "frames/s", "MB/s", "nats-py frames/s", "ours / nats-py", "written/s")
    for block, kind in [(b"", "PUB"), (headers.encode(HEADERS), "HPUB")]:
        for name, size, count in CASES:
            payload = bytes(size)
            said = publish(block, payload)
            heard = message(block, payload)
            mine = rate(ours, pieces(said * count), count=count)
            theirs = rate(nats_py, pieces(heard * count), count=count)
            written = rate(encoding, block, payload, count=count)
            table.add_row(
                f"{kind} {name}",
                f"{mine:,.0f}",
                f"{mine * len(said) / 1e6:,.0f}",
                f"{theirs:,.0f}",
                f"{mine / theirs:.2f}",
                f"{written:,.0f}",
            )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
