"""How many HTTP connections there may be, and how long one may keep silent.

Whoever sends nothing, a request byte by byte, or reads nothing of its answer is cut off after a
while. Until then it keeps no other out: where there are too many connections, the one that has been
without a request for longest is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger("mq9.broker")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of one HTTP port.

    Attributes:
        most: Requests in work at once.
        most_per_address: Of them, those from one address.
        reserve: Connections beyond these, for requests that are always answered.
        head_s: Seconds in which a request's head must have come, from the connection or from its
            first byte on.
        body_s: Seconds in which the rest of it must have come.
        write_s: Seconds for which a client may read nothing of what it is sent.
        keep_alive_s: Seconds for which a connection is kept for a further request.
    """

    most: int = 1_000
    most_per_address: int = 200
    reserve: int = 50
    head_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    keep_alive_s: int = 5


class Connections:
    """The connections of one port.

    Args:
        limits: How many there may be.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._all: dict[Connection, None] = {}  # the longest without a request first
        self._by_address: defaultdict[str, dict[Connection, None]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, connection: Connection) -> bool:
        """Take in a connection, if need be in place of an idle one; False when all are at work."""
        limits, same = self.limits, self._by_address[connection.address]
        for those, most in ((same, limits.most_per_address), (self._all, limits.most)):
            if len(those) >= most + limits.reserve:
                idle = next((one for one in those if one.is_idle), None)
                if idle is None:
                    logger.warning("an HTTP client was refused: %d are at work", len(those))
                    return False
                idle.cut_off()
                self.forget(idle)
        self._all[connection] = self._by_address[connection.address][connection] = None
        return True

    def touch(self, connection: Connection) -> None:
        """Note that a connection has just had a request."""
        if connection in self._all:
            for those in (self._all, self._by_address[connection.address]):
                del those[connection]
                those[connection] = None

    def forget(self, connection: Connection) -> None:
        """Forget a connection; harmless when repeated."""
        self._all.pop(connection, None)
        same = self._by_address[connection.address]
        same.pop(connection, None)
        if not same:
            del self._by_address[connection.address]

    def is_busy(self, address: str) -> bool:
        """Tell whether there are too many requests in work, from everywhere or from an address."""
        same = self._by_address.get(address, {})
        return (
            sum(not one.is_idle for one in same) > self.limits.most_per_address
            or sum(not one.is_idle for one in self._all) > self.limits.most
        )


class Connection(H11Protocol):
    """One HTTP connection, in time. A subclass for each port says whose it is."""

    of: ClassVar[Connections]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self.address = ""

    @property
    def is_idle(self) -> bool:
        """Whether no request is in work."""
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # None until the first request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if not self.of.admit(self):
            transport.abort()
            return
        self._expect(self.of.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._expect(None)
        self.resume_writing()
        self.of.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Go on with a request, or begin one."""
        before, was_idle = self.cycle, self.is_idle
        super().data_received(data)
        if self.is_idle:
            if was_idle and self._timer is None:  # the first byte of a further request
                self._expect(self.of.limits.head_s)
            return
        if self.cycle is not before:
            self.of.touch(self)
            self._expect(self.of.limits.body_s)
        if not self.cycle.more_body:
            self._expect(None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._expect(None)
        super().on_response_complete()
        if not self.is_idle and self.cycle.more_body:  # a request that came behind the last one
            self._expect(self.of.limits.body_s)

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.of.limits.write_s, self.cut_off)

    def resume_writing(self) -> None:
        """Go on."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def cut_off(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def _expect(self, seconds: float | None) -> None:
        """Be cut off after so many seconds, or not."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.cut_off)
