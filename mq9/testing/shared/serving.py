"""The side of the process that owns a fake broker: it answers others, and holds its clock for them.

It listens on a thread of its own, so that it serves others while the test blocks its event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mq9.broker.service import Request, Session
from mq9.clock import Timer, Work
from mq9.concurrency.portal import Portal
from mq9.errors import Mq9Error
from mq9.testing.clock import ManualClock
from mq9.testing.shared import frames
from mq9.testing.shared.frames import Frame

_logger = logging.getLogger("mq9.testing")

START_S = 30.0  # of real time, for a process that is expected


class Serving:
    """Serves other processes until it is closed.

    Args:
        handle: Answers a request.
        clock: The clock that they share.
        new_token: Returns what tells one expected process from another.
    """

    def __init__(
        self,
        handle: Callable[[Request], Awaitable[bytes]],
        clock: ManualClock,
        new_token: Callable[[], str],
    ) -> None:
        self._handle = handle
        self._clock = clock
        self._new_token = new_token
        self._portal = Portal("mq9-fake-broker")
        self._server: asyncio.Server | None = None
        self._expected: dict[str, Work] = {}
        self._tokens: set[str] = set()
        self._members: set[_Member] = set()

    def expect(self) -> str:
        """Return a URL for a process, for which the clock stands still until it has connected."""
        return self._portal.call(self._expect())

    def close(self) -> None:
        """End all connections, and the thread."""
        self._portal.call(self._close())
        self._portal.stop()

    async def _expect(self) -> str:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        token = self._new_token()
        self._tokens.add(token)
        self._expected[token] = self._clock.busy()
        asyncio.get_running_loop().call_later(START_S, self._give_up, token)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"fake://{host}:{port}/{token}"

    def _give_up(self, token: str) -> None:
        work = self._expected.pop(token, None)
        if work is not None:
            _logger.warning("no process has come by a URL of `serve` within %g s", START_S)
            work.end()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        member = None
        try:
            hello = await frames.read(reader)
            token = "" if hello is None else str(hello[0].get("hello"))
            if token in self._tokens:
                work = self._expected.pop(token, None) or self._clock.busy()
                member = _Member(self._handle, self._clock, writer, work)
                self._members.add(member)
                await member.serve(reader)
        finally:
            if member is not None:
                self._members.discard(member)
            writer.close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for work in self._expected.values():
            work.end()
        self._expected.clear()
        for member in list(self._members):
            member.end()


class _Member:
    """One process that shares the broker.

    Args:
        handle: Answers a request.
        clock: The clock.
        writer: Where to.
        work: What the clock stands still for while something can run in that process.
    """

    def __init__(
        self,
        handle: Callable[[Request], Awaitable[bytes]],
        clock: ManualClock,
        writer: asyncio.StreamWriter,
        work: Work,
    ) -> None:
        self._handle = handle
        self._clock = clock
        self._writer = writer
        self._work: Work | None = work
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._timer: Timer | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._soon_s: float | None = None

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Answer until the process ends the connection, or dies."""
        self._clock.add_follower(self)
        self._send_now()
        try:
            while (read := await frames.read(reader)) is not None:
                self._take(*read)
        finally:
            self._clock.remove_follower(self)
            for task in self._tasks.values():
                task.cancel()
            self._rest(None, is_awaited=False)

    def end(self) -> None:
        """End the connection."""
        self._writer.close()

    def moved(self) -> None:
        """Tell the process that the clock has moved; until it has seen that, something can run."""
        self._wake()
        self._loop.call_soon_threadsafe(self._send_now)

    def comes_within(self, seconds: float) -> bool:
        """Tell whether the process waits for a timer of asyncio that runs in less real time."""
        return self._soon_s is not None and self._soon_s < seconds

    def _take(self, frame: Frame, payload: bytes) -> None:
        match frame:
            case {"idle": seen, "next_ms": next_ms, "is_awaited": is_awaited, "soon_s": soon_s}:
                if seen == self._sent:
                    self._soon_s = soon_s
                    self._rest(next_ms, is_awaited=is_awaited)
            case {"endless": True}:
                self._clock.never_idle()
            case {"cancel": number}:
                if number in self._tasks:
                    self._tasks[number].cancel()
            case {"ask": number}:
                task = asyncio.create_task(self._answer(number, frame, payload))
                self._tasks[number] = task
                task.add_done_callback(lambda _: self._tasks.pop(number))

    async def _answer(self, number: int, frame: Frame, payload: bytes) -> None:
        headers = [(name, value) for name, value in frame["headers"]]
        session = Session(frame["consumer"], frame["agent"])
        request = Request(frame["subject"], payload, headers, session, frame["wants_reply"])
        try:
            reply = await self._handle(request)
        except Mq9Error as error:
            self._send({"failed": number, "code": error.code, "error": str(error)})
        else:
            self._send({"reply": number}, reply)

    def _send_now(self) -> None:
        self._send({"now_ms": self._clock.now_ms(), "monotonic_ms": self._clock.monotonic_ms()})

    def _send(self, frame: Frame, payload: bytes = b"") -> None:
        self._wake()
        self._sent += 1
        self._writer.write(frames.encode(frame, payload))

    def _wake(self) -> None:
        """Let the clock stand still."""
        if self._work is None:
            self._work = self._clock.busy()

    def _rest(self, next_ms: int | None, *, is_awaited: bool) -> None:
        """Let the clock go on, to an instant at which something happens in the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ms is not None:
            # It has to stop there; that it does is told to all.
            delay_ms = next_ms - self._clock.monotonic_ms()
            self._timer = self._clock.call_later(delay_ms, _nothing, background=not is_awaited)
        work, self._work = self._work, None
        if work is not None:
            work.end()


def _nothing() -> None:
    """Do nothing."""
