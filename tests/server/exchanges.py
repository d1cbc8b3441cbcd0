"""Exchanges with a NATS server, as a text that people can read: `exchanges.txt`."""

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path

CONNECTED = "ABC"  # clients that have said CONNECT before the exchange begins
_CONNECT = (
    b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}'
    b"\r\nPING\r\n"
)
_LONG = 64 * 1024
_WAITS = "(waits)"
_CLOSED = "(closed)"


@dataclass
class Exchange:
    """What clients say, and what each is told by a nats-server and by mq9.

    Attributes:
        name: What it shows.
        server: Which server it is for.
        difference: What docs/reference/nats.md calls the difference, if there is one.
        script: Client and line, in order.
        theirs: What a nats-server tells each client.
        ours: What mq9 tells each client.
    """

    name: str
    server: str
    difference: str | None
    script: list[tuple[str, str]] = field(default_factory=list)
    theirs: dict[str, list[str]] = field(default_factory=dict)
    ours: dict[str, list[str]] = field(default_factory=dict)


def read():
    """Return all exchanges."""
    text = Path(__file__).with_suffix(".txt").read_text("utf-8")
    server, found = "", []
    for line in text[text.index("\n@ ") :].split("\n"):
        if line.startswith("@ "):
            server = line.removeprefix("@ ")
        elif line.startswith("# "):
            name, difference = re.fullmatch(r"# (.*?)(?: \[([a-z0-9-]+)\])?", line).groups()
            found.append(Exchange(name, server, difference))
        elif line:
            who, kind, rest = line[0], line[1], line[3:]
            if kind == ":":
                found[-1].script.append((who, rest))
            told = {"=": found[-1].theirs, "~": found[-1].ours}.get(kind, {})
            told.setdefault(who, []).extend([rest] if rest else [])
    for exchange in found:
        for who in {who for who, _ in exchange.script}:
            exchange.theirs.setdefault(who, [])
            exchange.ours.setdefault(who, exchange.theirs[who])
    return found


def _written(text):
    """Return the bytes of a line."""
    data = text.removesuffix("…").replace("↵", "\r\n").encode()
    for escape, byte in (("t", b"\t"), ("r", b"\r"), ("n", b"\n")):
        data = data.replace(b"\\" + escape.encode(), byte)
    data = re.sub(rb"\\x(..)", lambda found: bytes.fromhex(found[1].decode()), data)
    data = re.sub(rb"<(\d+) x (.)>", lambda found: found[2] * int(found[1]), data)
    if b"{h}" in data:
        body = data.partition(b"\r\n")[2]
        head = body.index(b"\r\n\r\n") + 4
        data = data.replace(b"{h}", b"%d" % head).replace(b"{n}", b"%d" % len(body))
    return data if text.endswith("…") else data + b"\r\n"


def _shown(data):
    """Return a frame as the text writes it."""
    text = data.removesuffix(b"\r\n").decode(errors="backslashreplace")
    text = text.replace("\r\n", "↵").replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")
    text = re.sub(r"(.)\1{99,}", lambda found: f"<{len(found[0])} x {found[1]}>", text)
    return re.sub(r"[\0-\x1f]", lambda found: f"\\x{ord(found[0]):02x}", text)


class Client:
    """One client of an exchange, with what it has been told; INFO is not noted."""

    def __init__(self, reader, writer):
        self._reader, self.writer = reader, writer
        self.told = []

    @property
    def is_over(self):
        return self.told[-1:] == [_CLOSED]

    async def say(self, text):
        """Send a line, and hear what comes of it."""
        if text != _WAITS:
            data = _written(text)
            if len(data) > _LONG:
                data = await self._rest(data)
            self.writer.write(data)
            if text.endswith("…"):
                return
            if data.upper() == b"PING\r\n":
                await self.listen(keep_pong=True)
                return
            self.writer.write(b"PING\r\n")
        await self.listen()

    async def _rest(self, data):
        """Send the line of a long message; return what is to follow, nothing if it is refused.

        A server that ends a connection of which it has not read everything loses its last words.
        """
        line, end, rest = data.partition(b"\r\n")
        self.writer.write(line + end)
        try:
            async with asyncio.timeout(0.2):
                self.told.append(_shown(await self.frame()))
        except TimeoutError:
            return rest
        return b""

    async def listen(self, *, keep_pong=False):
        """Note what comes up to a PONG or the end."""
        try:
            async with asyncio.timeout(20):
                while (frame := await self.frame()) != b"PONG\r\n":
                    if not frame.startswith(b"INFO "):
                        self.told.append(_shown(frame))
            if keep_pong:
                self.told.append("PONG")
        except (EOFError, ConnectionError):
            self.told.append(_CLOSED)

    async def frame(self):
        line = await self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        if line.startswith((b"MSG ", b"HMSG ")):
            line += await self._reader.readexactly(int(line.split()[-1]) + 2)
        return line

    async def finish(self):
        """Note what has not been heard yet, and go."""
        if not self.is_over:
            self.writer.write(b"PING\r\n")
            await self.listen()
        self.writer.close()


async def _connect(address, who):
    client = Client(*await asyncio.open_connection(*address, limit=4 * 1024 * 1024))
    greeting = await client.frame()
    assert greeting.startswith(b"INFO "), greeting
    if who in CONNECTED:
        client.writer.write(_CONNECT)
        await client.listen()
    return client


async def replay(exchange, address):
    """Return what each client is told."""
    clients = {}
    for who, text in exchange.script:
        if who not in clients:
            clients[who] = await _connect(address, who)
        if not clients[who].is_over:
            await clients[who].say(text)
    for client in clients.values():
        await client.finish()
    return {who: client.told for who, client in clients.items()}
