"""What does a request cost a server? Its CPU time a SEND, and a message fetched and acked.

Run it with `.venv/bin/python benchmarks/scripts/server_cpu.py`, on Linux only. It takes some
seconds. CPU time is that of the server's event loop and, apart from it, of its other threads, which
write and read the file; what else runs on the machine hardly changes it. The client is one socket
and does little, so that it is seldom waited for. The figures are the medians of some rounds.
"""

import secrets
import socket
import statistics
import sys
import tempfile
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table
from served import served

ROUNDS = 5
SENDS = 4_000
FETCHES = 100
TOGETHER = 100  # messages of a FETCH
AT_ONCE = 64
BODY = b"x" * 300
INBOX = b"_INBOX.UOKeBdYVSQvVgfVDYsVlpI"


class Client:
    """Makes requests over one socket, many at once."""

    def __init__(self, url):
        host, port = url.removeprefix("nats://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._buffer = bytearray()
        self._line()  # INFO
        self._socket.sendall(
            b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\nSUB %b.* 1\r\n' % INBOX
        )
        self._asked = 0

    def _receive(self):
        received = self._socket.recv(1 << 20)
        if not received:
            sys.exit("the server has ended the connection")
        self._buffer += received

    def _take(self, size):
        while len(self._buffer) < size:
            self._receive()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _line(self):
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._receive()
        return self._take(end + 2)[:-2]

    def _reply(self):
        line = self._line()
        while line == b"PING":
            self._socket.sendall(b"PONG\r\n")
            line = self._line()
        assert line.startswith(b"MSG "), line  # noqa: S101  # else it measures nothing
        reply = orjson.loads(self._take(int(line.rpartition(b" ")[2]) + 2))
        assert not reply["error"], reply  # noqa: S101  # else it measures nothing
        return reply

    def _request(self, verb, body, headers=b""):
        self._asked += 1
        subject = b"$mq9.AI.%b %b.%d" % (verb, INBOX, self._asked)
        if not headers:
            return b"PUB %b %d\r\n%b\r\n" % (subject, len(body), body)
        size = len(headers) + len(body)
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(headers), size, headers, body)

    def ask(self, verb, **body):
        """Make a request and return its reply."""
        self._socket.sendall(self._request(verb, orjson.dumps(body)))
        return self._reply()

    def send(self, count, at_once):
        """Send messages with idempotency ids; as many again as there are replies to read."""
        begun = done = 0
        while done < count:
            more = min(at_once - (begun - done), count - begun)
            if more:
                self._socket.sendall(b"".join(self._one() for _ in range(more)))
                begun += more
            self._reply()
            done += 1
            while done < begun and self._buffer:
                self._reply()
                done += 1

    def _one(self):
        headers = b"NATS/1.0\r\nmq9-id: %b\r\n\r\n" % secrets.token_hex(12).encode()
        return self._request(b"MSG.SEND.inbox", BODY, headers)

    def fetch(self, count):
        """Fetch and ack messages for a new group."""
        group = secrets.token_hex(4)
        for _ in range(count):
            fetched = self.ask(
                b"MSG.FETCH.inbox",
                group_name=group,
                deliver="earliest",
                request_id=secrets.token_hex(12),
                config={"num_msgs": TOGETHER, "max_wait_ms": 0, "consumer": "bench"},
            )
            messages = fetched["messages"]
            assert len(messages) == TOGETHER, len(messages)  # noqa: S101  # else too few are stored
            self.ask(
                b"MSG.ACK.inbox",
                group_name=group,
                consumer="bench",
                mail_address="inbox",
                batch=fetched["batch"],
                msg_id=messages[-1]["msg_id"],
            )


def cpu_seconds(pid):
    """Return what the event loop of a process and its other threads have used so far."""
    used = {
        int(thread.name): int((thread / "schedstat").read_text().split()[0]) / 1e9
        for thread in Path(f"/proc/{pid}/task").iterdir()
    }
    return used.pop(pid), sum(used.values())


def measure(pid, work, count):
    """Return the microseconds of both, for one of what is done so many times."""
    before = cpu_seconds(pid)
    work()
    after = cpu_seconds(pid)
    return [(b - a) * 1e6 / count for a, b in zip(before, after, strict=True)]


def main():
    with (
        tempfile.TemporaryDirectory() as directory,
        served("--data", f"{directory}/mail.db", "--max-messages", "10000000") as (url, pid),
    ):
        client = Client(url)
        client.ask(b"MAILBOX.CREATE", name="inbox")
        cases = {
            f"SEND, {AT_ONCE} in flight": (lambda: client.send(SENDS, AT_ONCE), SENDS),
            "SEND, one by one": (lambda: client.send(SENDS // 4, 1), SENDS // 4),
            f"message fetched and acked, {TOGETHER} at a time": (
                lambda: client.fetch(FETCHES),
                FETCHES * TOGETHER,
            ),
        }
        client.send(FETCHES * TOGETHER, AT_ONCE)
        figures = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, (work, count) in cases.items():
                figures[name].append(measure(pid, work, count))
    table = Table("µs of CPU time", "event loop", "other threads")
    for name, rounds in figures.items():
        table.add_row(name, *(f"{statistics.median(one):.1f}" for one in zip(*rounds, strict=True)))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
