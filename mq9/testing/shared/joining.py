"""The side of a process that uses another's fake broker: its transport, and its connection.

All clients of a process share one connection, since what the process waits for is told on it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from typing import Any
from urllib.parse import urlsplit

from mq9.clock import Clock
from mq9.concurrency.portal import Portal, Stopped
from mq9.errors import InvalidRequest, NotConnected, OutcomeUnknown, Unreachable, from_reply
from mq9.protocol.headers import Headers
from mq9.testing.shared import frames
from mq9.testing.shared.following_clock import FollowingClock, State
from mq9.testing.shared.frames import Frame

_CONNECT_S = 10.0
_lock = threading.Lock()
_links: dict[tuple[str, int], _Link] = {}  # by URL, and process


def check(url: str) -> tuple[str, int, str]:
    """Return host, port and token of a URL.

    Raises:
        InvalidRequest: It is not ``fake://host:port/token``.
    """
    try:
        parts = urlsplit(url)
        host, port, token = parts.hostname, parts.port, parts.path.strip("/")
    except ValueError:
        host = port = token = None
    if not host or not port or not token:
        raise InvalidRequest(f"server: {url!r} is not fake://host:port/token, as `serve` returns")
    return host, port, token


async def join(url: str, consumer: str, agent: str | None) -> SharedTransport:
    """Connect to the process that owns a broker, or use the connection that there is.

    Args:
        url: What ``FakeBroker.serve`` returned.
        consumer: Stands in for the consumer in requests that name none.
        agent: The agent that the requests count as authenticated for.

    Raises:
        InvalidRequest: It is no such URL.
        Unreachable: Nobody serves there.
    """
    check(url)
    with _lock:
        link = _links.get((url, os.getpid()))
        if link is None or link.is_lost:
            link = _links[url, os.getpid()] = _Link(url)
        link.users += 1
    transport = SharedTransport(link, consumer, agent)
    try:
        await link.open()
    except BaseException:
        await transport.close()
        raise
    return transport


class SharedTransport:
    """Sends one client's requests to the process that owns the broker.

    Args:
        link: The connection of this process.
        consumer: Stands in for the consumer in requests that name none.
        agent: The agent that the requests count as authenticated for.
    """

    any_loop = False

    def __init__(self, link: _Link, consumer: str, agent: str | None) -> None:
        self._link: _Link | None = link
        self._who: Frame = {"consumer": consumer, "agent": agent}
        self._process = os.getpid()
        self._waiting: set[asyncio.Timeout] = set()
        self.clock: Clock = link.clock

    async def request(
        self, subject: str, payload: bytes, headers: Headers, timeout: float
    ) -> bytes:
        """Send a request and return its reply."""
        link = self._connected()
        asked = self._who | {"subject": subject, "headers": list(headers)}
        try:
            async with asyncio.timeout(timeout) as deadline:
                self._waiting.add(deadline)
                try:
                    return await link.request(asked, payload)
                finally:
                    self._waiting.discard(deadline)
        except TimeoutError:
            raise OutcomeUnknown(f"no reply to {subject}; the outcome is unknown") from None

    async def abandon(self, subject: str, payload: bytes) -> None:
        """Take back a request whose caller was cancelled."""
        if self._link is not None:
            self._link.tell(self._who | {"subject": subject, "headers": []}, payload)

    async def close(self) -> None:
        """Let go of the connection, which ends with the last of its clients."""
        link, self._link = self._link, None
        if link is None or os.getpid() != self._process:
            return
        for deadline in self._waiting:
            if not deadline.expired():
                deadline.reschedule(0)
        with _lock:
            link.users -= 1
            is_unused = not link.users
            if is_unused and _links.get((link.url, self._process)) is link:
                del _links[link.url, self._process]
        if is_unused:
            await asyncio.to_thread(link.close)

    def _connected(self) -> _Link:
        if self._link is None:
            raise NotConnected("the client is closed")
        if os.getpid() != self._process:
            raise NotConnected("the process was forked; connect a new client in the child")
        return self._link


class _Link:
    """The connection of this process, on a thread of its own.

    Args:
        url: Where to connect.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.users = 0
        self.is_lost = False
        self.clock = FollowingClock(self._report)
        self._portal = Portal("mq9-fake-broker")
        self._opening: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}

    async def open(self) -> None:
        """Connect, where that is not done; awaited on any event loop.

        Raises:
            Unreachable: Nobody serves there.
        """
        self.clock.follow(asyncio.get_running_loop())
        try:
            await self._portal.await_(self._open_once())
        except Stopped:
            raise NotConnected("the client is closed") from None

    async def request(self, asked: Frame, payload: bytes) -> bytes:
        """Ask, and return the reply; awaited on any event loop.

        Raises:
            OutcomeUnknown: No reply came.
            NotConnected: The owner has ended.
        """
        try:
            return await self._portal.await_(self._request(asked, payload))
        except Stopped:
            raise OutcomeUnknown("the client was closed; the outcome is unknown") from None

    def tell(self, asked: Frame, payload: bytes) -> None:
        """Ask something to which there is no reply."""
        writer = self._writer
        if writer is not None and not self.is_lost:
            frame = asked | {"ask": next(self._numbers), "wants_reply": False}
            self.clock.call_on(self._loop, lambda: writer.write(frames.encode(frame, payload)))

    def close(self) -> None:
        """End the connection and its thread."""
        self._portal.stop()

    async def _open_once(self) -> None:
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        host, port, token = check(self.url)
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, self._writer = await asyncio.open_connection(host, port)
                self._writer.write(frames.encode({"hello": token}))
                first = await frames.read(reader)
        except OSError as error:  # TimeoutError is one
            first = None
            self._fail()
            raise Unreachable(f"no test serves a broker at {self.url}: {error}") from None
        if first is None:
            self._fail()
            raise Unreachable(f"no test serves a broker at {self.url}")
        self._take(*first)
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (read := await frames.read(reader)) is not None:
                self._take(*read)
        finally:
            self._fail()

    def _take(self, frame: Frame, payload: bytes) -> None:
        self.clock.has_seen()
        match frame:
            case {"now_ms": now_ms, "monotonic_ms": monotonic_ms}:
                self.clock.go_to(now_ms, monotonic_ms)
            case {"reply": number} if (waiting := self._waiting.pop(number, None)) is not None:
                waiting.set_result(payload)
            case {"failed": number} if (waiting := self._waiting.pop(number, None)) is not None:
                waiting.set_exception(_error(frame))

    def _fail(self) -> None:
        """Note that the owner has ended; from now on the clock goes by itself."""
        self.is_lost = True
        if self._writer is not None:
            self._writer.close()
        for waiting in self._waiting.values():
            waiting.set_exception(
                OutcomeUnknown("the test that serves the broker has ended; the outcome is unknown")
            )
        self._waiting.clear()
        self.clock.go_by_itself()

    async def _request(self, asked: Frame, payload: bytes) -> bytes:
        if self.is_lost or self._writer is None:
            raise NotConnected("the test that serves the broker has ended")
        number = next(self._numbers)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        self._writer.write(frames.encode(asked | {"ask": number, "wants_reply": True}, payload))
        try:
            return await reply
        finally:
            if self._waiting.pop(number, None) is not None:
                self._writer.write(frames.encode({"cancel": number}))

    def _report(self, state: State | None) -> None:
        """Tell the owner what this process waits for; None: it never rests."""
        writer = self._writer
        if writer is None or self.is_lost:
            return
        told: dict[str, Any] = {"endless": True}
        if state is not None:
            told = {
                "idle": state.seen,
                "next_ms": state.next_ms,
                "is_awaited": state.is_awaited,
                "soon_s": state.soon_s,
            }
        self.clock.call_on(self._loop, lambda: writer.write(frames.encode(told)))


def _error(frame: Frame) -> Exception:
    return from_reply(frame["error"], frame["code"])
