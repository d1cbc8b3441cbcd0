"""The connection of a client: open it, make requests, and repeat them if that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from mq9 import address as addresses
from mq9.clock import Clock, sleep
from mq9.concurrency.single_flight import Abandoned, SingleFlight
from mq9.errors import (
    BrokerFailed,
    NotConnected,
    OutcomeUnknown,
    TooExpensive,
    Unavailable,
    Unreachable,
)
from mq9.models import Unread
from mq9.protocol import checks
from mq9.protocol.body import Body
from mq9.protocol.verbs import verb_of
from mq9.transport.base import Transport

_FIRST_PART = 8  # the first pause after `unavailable` is the delay divided by this


class Retries:
    """The pauses before each repetition of a request, and the error at the end."""

    def __init__(self, *, is_repeatable: bool, most: int, delay: float) -> None:
        self._is_repeatable = is_repeatable
        self._most = most
        self._delay = delay
        self._made = 0
        self._lost: OutcomeUnknown | None = None

    def after(self, error: Unavailable | Unreachable) -> float:
        """Return how many seconds to wait before the next repetition. Otherwise raise an error."""
        if isinstance(error, OutcomeUnknown):
            if self._is_last or not self._is_repeatable:
                raise error
            self._lost = error
        elif isinstance(error, TooExpensive):
            raise error
        elif self._is_last or isinstance(error, BrokerFailed):
            if self._lost is None:
                raise error
            # An earlier attempt was sent. Its outcome stays unknown.
            raise OutcomeUnknown(f"{self._lost}; since then {error}") from error
        self._made += 1
        if isinstance(error, OutcomeUnknown | Unreachable):
            return self._delay if self._made > 1 else 0.0
        return min(self._delay, self._delay / _FIRST_PART * 2.0 ** (self._made - 1))

    @property
    def _is_last(self) -> bool:
        return self._made == self._most


R = TypeVar("R")


@dataclass(slots=True)
class UnreadWatch:
    """The count of unread messages in the latest reply. ``unread`` is None before the first."""

    unread_of: tuple[str, str]  # a mailbox and a group
    unread: Unread | None = None


class BrokerConnection:
    """Makes requests to one broker."""

    def __init__(
        self,
        open_transport: Callable[[], Awaitable[Transport]],
        *,
        transport: Transport | None,
        request_timeout: float,
        attempts: int,
        delay: float,
        clock: Clock | None,
    ) -> None:
        self._open_transport = open_transport
        self._transport = transport
        self._opening = SingleFlight(self._open)
        self._closings = 0
        self._aborted: set[asyncio.Task[None]] = set()
        self._timeout = request_timeout
        self._attempts = attempts
        self._delay = delay
        self._given_clock = clock
        self._watch: ContextVar[UnreadWatch | None] = ContextVar("mq9_unread", default=None)

    @property
    def is_open(self) -> bool:
        """Whether requests are possible."""
        return self._transport is not None

    @property
    def any_loop(self) -> bool:
        """Whether requests are possible on any event loop."""
        return self._transport is not None and self._transport.any_loop

    @property
    def clock(self) -> Clock:
        """The clock: the given one, else the broker's."""
        return self._given_clock or self._connected().clock

    async def open(self) -> None:
        """Connect, if not connected. If you cancel it, no connection stays open."""
        if self._transport is not None:
            return
        try:
            await self._opening()
        except Abandoned:
            raise NotConnected("the client was closed while it was connecting") from None
        except asyncio.CancelledError:
            if self._opening.is_unclaimed:
                await self.close()
            raise

    async def _open(self) -> None:
        closings = self._closings
        transport = await self._open_transport()
        if self._closings != closings:
            await transport.close()
            raise Abandoned
        self._transport = transport

    async def close(self) -> None:
        """Close the connection. You may call this again."""
        self._closings += 1
        opening = self._opening.abandon()
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()
        if opening is not None:
            await asyncio.wait([opening])
        if self._aborted:
            await asyncio.wait(self._aborted)

    def abort(self) -> None:
        """Disconnect at once. The transport closes in the background."""
        self._closings += 1
        self._opening.abandon()
        transport, self._transport = self._transport, None
        if transport is not None:
            closing = asyncio.create_task(transport.close())
            self._aborted.add(closing)
            closing.add_done_callback(self._aborted.discard)

    def _connected(self) -> Transport:
        if self._transport is None:
            raise NotConnected("the client is not connected; use `async with` or `await open()`")
        return self._transport

    async def request(
        self,
        asked: Body[R],
        mail_address: str = "",
        payload: bytes | None = None,
        *,
        wait_ms: int = 0,
    ) -> R:
        """Make a request and return its outcome."""
        asked.check_address(mail_address)
        watch = self._watch.get()
        unread_of = None if watch is None else watch.unread_of
        timeout = self._timeout + wait_ms / 1000
        retries = None
        while True:
            try:
                reply = await self._connected().request(
                    asked, mail_address, payload, unread_of, timeout
                )
            except (Unavailable, Unreachable) as error:
                retries = retries or self._retries(asked)
                pause = retries.after(error)
            else:
                if watch is not None:
                    watch.unread = reply.unread
                return reply.outcome
            if pause:
                await sleep(self.clock, pause)

    def _retries(self, asked: Body[Any]) -> Retries:
        return Retries(
            is_repeatable=verb_of(type(asked)).may_repeat(asked),
            most=self._attempts,
            delay=self._delay,
        )

    async def abandon(self, asked: Body[Any], mail_address: str) -> None:
        """Send a request that undoes the request of a cancelled caller. Do not wait for a reply."""
        if self._transport is not None:
            await self._transport.abandon(asked, mail_address)

    @contextmanager
    def watch_unread(self, mail_address: str, group_name: str) -> Iterator[UnreadWatch]:
        """Ask for the number of unread messages of a group with every request in the context."""
        address = addresses.parse(mail_address)
        group = checks.header_text("group_name", group_name)
        watch = UnreadWatch((address, group))
        outer = self._watch.set(watch)
        try:
            yield watch
        finally:
            self._watch.reset(outer)
