"""A NATS client that sends whatever bytes a test likes."""

import asyncio
import contextlib

import orjson


class RawClient:
    """Speaks over one socket, and splits what comes back into frames.

    It answers the PINGs that it reads, and counts them, unless it is told not to.
    """

    def __init__(self, reader, writer):
        self._reader = reader
        self._writer = writer
        self.info = None
        self.answers_pings = True
        self.pings = 0
        self._inboxes = 0

    @classmethod
    async def open(cls, address):
        """Connect and read INFO, no more."""
        client = cls(*await asyncio.open_connection(*address))
        kind, *rest = await client.frame()
        assert kind == "INFO", (kind, rest)
        client.info = orjson.loads(rest[0])
        return client

    @classmethod
    async def connect(cls, address, **options):
        """Connect, say who we are, and see that it is accepted."""
        client = await cls.open(address)
        client.send(connect(**options) + b"PING\r\n")
        assert await client.frame() == ("PONG",)
        return client

    def send(self, data):
        self._writer.write(data)

    async def send_all(self, data):
        self._writer.write(data)
        await self._writer.drain()

    async def frame(self, timeout=10):
        """Return the next frame: its name and its parts. Raises EOFError at the end."""
        frame = await self._frame(timeout)
        while frame == ("PING",) and self.answers_pings:
            self.pings += 1
            self.send(b"PONG\r\n")
            frame = await self._frame(timeout)
        return frame

    async def _frame(self, timeout):
        async with asyncio.timeout(timeout):
            line = await self._reader.readline()
            if not line.endswith(b"\r\n"):
                raise EOFError(line)
            name, _, rest = line[:-2].partition(b" ")
            if name not in {b"MSG", b"HMSG"}:
                return (name.decode(), rest.decode()) if rest else (name.decode(),)
            parts = rest.split(b" ")
            sizes = [int(part) for part in parts[2:] if part.isdigit()]
            body = await self._reader.readexactly(sizes[-1] + 2)
            assert body.endswith(b"\r\n")
            head = sizes[0] if name == b"HMSG" else 0
            return name.decode(), parts[0].decode(), body[:head], body[head:-2]

    async def ask(self, subject, payload=b"", headers=()):
        """Make a request and return the bytes of its reply."""
        self._inboxes += 1
        inbox = f"_INBOX.raw.{self._inboxes}"
        self.send(f"SUB {inbox} {self._inboxes}\r\n".encode())
        self.send(publish(subject, payload, headers=headers, reply=inbox))
        name, _, _, reply = await self.frame()
        assert name == "MSG"
        self.send(f"UNSUB {self._inboxes}\r\n".encode())
        return reply

    async def ended(self):
        """Return the frames up to the end of the connection."""
        frames = []
        with contextlib.suppress(EOFError, ConnectionError, asyncio.IncompleteReadError):
            while True:
                frames.append(await self.frame())
        return frames

    async def close(self):
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()


def connect(**options):
    """Return the frame that says who we are."""
    options = {"verbose": False, "pedantic": False, "protocol": 1, "headers": True, **options}
    options = {"no_responders": options["headers"], **options}
    return b"CONNECT " + orjson.dumps(options) + b"\r\n"


def publish(subject, payload=b"", *, headers=(), reply=""):
    """Return the frame that publishes something."""
    to = f"{subject} {reply}".rstrip()
    if not headers:
        return f"PUB {to} {len(payload)}\r\n".encode() + payload + b"\r\n"
    block = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    head = block.encode()
    return (
        f"HPUB {to} {len(head)} {len(head) + len(payload)}\r\n".encode() + head + payload + b"\r\n"
    )
