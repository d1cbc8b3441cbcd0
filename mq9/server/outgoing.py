"""Output that clients have not read: stored once, bounded, and sent in parts.

A transport copies bytes that its socket does not take. So it gets a little at a time, and the rest
waits here, where a message for many clients is one object.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_PART = 64 * 1024  # bytes for a transport at once
_JOINED = 4 * 1024  # bytes of a body up to which copying it costs less than keeping it apart


class SharedBody:
    """Bytes that are kept once, however many clients they go to."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


class Quota:
    """The unread bytes of several clients together; shared bodies count once."""

    def __init__(self, most: int) -> None:
        self._most = most  # beyond it the client that leaves most unread is cut off
        self._holders: dict[SharedBody, int] = {}
        self.held = 0
        self.members: set[Outgoing] = set()

    def hold(self, body: SharedBody) -> None:
        """Count a body that one more client waits for."""
        holders = self._holders.get(body, 0)
        self._holders[body] = holders + 1
        if not holders:
            self.held += len(body.data)

    def release(self, body: SharedBody) -> None:
        """Count a body no longer for one of the clients."""
        self._holders[body] -= 1
        if not self._holders[body]:
            del self._holders[body]
            self.held -= len(body.data)

    def keep(self) -> None:
        """Cut clients off until the limit is kept."""
        while self.held > self._most and self.members:
            max(self.members, key=lambda member: member.pending).cut_off()


class Outgoing:
    """Output that one client has not read."""

    def __init__(self, quota: Quota, cut_off: Callable[[], None]) -> None:
        self.cut_off = cut_off
        self._quotas = [quota]
        quota.members.add(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytearray | SharedBody] = deque()  # short pieces are one bytearray
        self._written = 0  # bytes, in all
        self._bytes = 0  # of what waits
        self._joined = 0  # of these, bytes outside bodies
        self._begun = 0  # bytes of the first body that the transport has
        self._counted = 0  # bytes outside bodies that the quotas count
        self._paused = False
        self._looks = 0
        self._at_end: Callable[[], None] | None = None
        # Waiters for a total of bytes that the socket has taken, in order.
        self._takers: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def pending(self) -> int:
        """Bytes that the client has not read, shared ones included."""
        kept = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._bytes + kept

    def attach(self, transport: asyncio.Transport) -> None:
        """Send over this transport from now on."""
        transport.set_write_buffer_limits(
            high=1
        )  # it reports when it keeps more, and when it is empty
        self._transport = transport

    def join(self, quota: Quota) -> None:
        """Let another quota count, too."""
        self._quotas.append(quota)
        quota.members.add(self)
        quota.held += self._counted
        for piece in self._waiting:
            if isinstance(piece, SharedBody):
                quota.hold(piece)

    def write(self, data: bytes, body: SharedBody | None = None) -> None:
        """Let something wait until `flush`."""
        if body is None:
            self._append(data)
        elif len(body.data) <= _JOINED:
            self._append(data + body.data)
        else:
            self._append(data)
            self._waiting.append(body)
            self._bytes += len(body.data)
            self._written += len(body.data)
            for quota in self._quotas:
                quota.hold(body)

    def _append(self, data: bytes) -> None:
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, bytearray) and len(last) < _PART:
            last += data
        else:
            self._waiting.append(bytearray(data))
        self._bytes += len(data)
        self._written += len(data)
        self._joined += len(data)

    def flush(self) -> None:
        """Give the transport as much as it takes, and enforce the quotas."""
        transport = self._transport
        if transport is None:
            return
        self._tell_takers()
        while self._waiting and not self._paused:
            transport.write(self._next())
        self._tell_takers()
        if self._paused or self._counted:
            self._count(transport.get_write_buffer_size())
        if self._waiting:
            for quota in list(self._quotas):
                quota.keep()
        elif self._at_end is not None:
            self._at_end()

    def _next(self) -> bytes | bytearray | memoryview:
        """Take the next bytes to send, about one part."""
        parts: list[bytearray | memoryview] = []
        size = 0
        while self._waiting and size < _PART:
            piece = self._waiting[0]
            if isinstance(piece, bytearray):
                self._waiting.popleft()
                self._joined -= len(piece)
                parts.append(piece)
            else:
                parts.append(self._part(piece, _PART - size))
            size += len(parts[-1])
        self._bytes -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, body: SharedBody, most: int) -> memoryview:
        """Take a number of bytes of the next body."""
        part = memoryview(body.data)[self._begun : self._begun + most]
        self._begun += len(part)
        if self._begun == len(body.data):
            self._begun = 0
            self._waiting.popleft()
            for quota in self._quotas:
                quota.release(body)
        return part

    def _count(self, buffered: int) -> None:
        """Report bytes outside bodies to the quotas; the transport keeps some of them."""
        change = self._joined + buffered - self._counted
        self._counted += change
        for quota in self._quotas:
            quota.held += change

    async def taken(self) -> None:
        """Return when the socket has taken the output; never if the connection is lost."""
        if self._waiting or self._paused or self._transport is None:
            taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._takers.append((self._written, taken))
            await taken

    def _tell_takers(self) -> None:
        """Wake the waiters whose bytes the socket has taken, if the transport is empty."""
        given = self._written - self._bytes
        while not self._paused and self._takers and self._takers[0][0] <= given:
            _, taken = self._takers.popleft()
            if not taken.done():  # cancelled
                taken.set_result(None)

    def pause(self) -> None:
        """Wait for the client: the transport keeps something."""
        self._paused = True

    def resume(self) -> None:
        """Continue: the transport is empty."""
        self._paused = False
        self._looks = 0
        self.flush()

    def has_stalled(self) -> bool:
        """Return whether the client has read nothing since the last call."""
        self._looks = self._looks + 1 if self._paused else 0
        return self._looks > 1

    def finish(self, at_end: Callable[[], None]) -> None:
        """Call a function as soon as the transport has everything."""
        self._at_end = at_end
        self.flush()

    def clear(self) -> None:
        """Drop everything, also from the quotas, and send nothing more."""
        self._transport = None
        for quota in self._quotas:
            quota.members.discard(self)
            quota.held -= self._counted
            for piece in self._waiting:
                if isinstance(piece, SharedBody):
                    quota.release(piece)
        self._quotas.clear()
        self._waiting.clear()
        self._takers.clear()
        self._bytes = self._joined = self._begun = self._counted = 0
