"""A broker inside this process: service, backend and waiters put together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mq9.broker.feed import Feed
from mq9.broker.observer import Observer, Silent
from mq9.broker.service import LocalRequest, Request, Service, Session
from mq9.broker.waiters import Waiters
from mq9.clock import LONGEST_JUMP_MS, Clock, SteadyClock
from mq9.dialects import Dialects, older_verbs
from mq9.discovery.embeddings import Embeddings
from mq9.discovery.index import AGENT_INDEX
from mq9.engine.commands import Call, Claimed, Limits, Undo
from mq9.models import Totals
from mq9.protocol.outcomes import Reply
from mq9.protocol.reserved import Reserved
from mq9.storage import store
from mq9.storage.backend import MAX_STEPS, Backend, InlineBackend
from mq9.storage.file_backend import FileBackend
from mq9.storage.store import Durability

R = TypeVar("R")
Randomness = Callable[[int], bytes]


class Broker(Protocol):
    """What a transport inside the process needs of a broker."""

    @property
    def clock(self) -> Clock:
        """The clock that the broker lives by."""

    async def carry_out(self, request: LocalRequest[R]) -> Reply[R]:
        """Carry out one request, and return what it came to."""


class EmbeddedBroker:
    """Answers requests until it is closed.

    Args:
        make_backend: Makes the backend, given its clock and what to call when another process
            wrote.
        clock: Tells the time.
        randomness: Gives that many unpredictable bytes.
        observer: Is told what happens.
        embeddings: Let agents be found by meaning; without any they are found by their words.
        dialects: The generations of the protocol that it speaks.
        steady: The clock of what has happened; None for one that follows any jump of ``clock``.

    Attributes:
        clock: The clock.
        dialects: The generations.
    """

    def __init__(
        self,
        make_backend: Callable[[SteadyClock, Callable[[str | None], None]], Backend],
        clock: Clock,
        randomness: Randomness = secrets.token_bytes,
        *,
        observer: Observer | None = None,
        embeddings: Embeddings | None = None,
        dialects: Dialects = Dialects.ALL,
        steady: SteadyClock | None = None,
    ) -> None:
        self.clock = clock
        self.dialects = dialects
        self._waiters = Waiters(self._watch)
        self._steady = steady = steady or SteadyClock(clock)
        self._backend = make_backend(steady, self._waiters.notify)
        self._service = Service(
            self._backend,
            self._waiters,
            steady,
            randomness,
            observer=observer or Silent(),
            embeddings=embeddings,
            older=older_verbs(dialects, is_sdk=False),
            of_sdks=older_verbs(dialects, is_sdk=True),
        )

    @classmethod
    def in_memory(
        cls,
        clock: Clock,
        *,
        limits: Limits = Limits(),
        observer: Observer | None = None,
        embeddings: Embeddings | None = None,
        dialects: Dialects = Dialects.ALL,
    ) -> EmbeddedBroker:
        """Make a broker whose state lives as long as it does."""
        return cls(
            lambda steady, _: InlineBackend(store.open_memory(), steady, limits, AGENT_INDEX),
            clock,
            observer=observer,
            embeddings=embeddings,
            dialects=dialects,
        )

    @classmethod
    def on_file(
        cls,
        path: Path,
        clock: Clock,
        *,
        limits: Limits | None = None,
        durability: Durability = Durability.NORMAL,
        observer: Observer | None = None,
        embeddings: Embeddings | None = None,
        dialects: Dialects = Dialects.ALL,
        max_read_steps: int = MAX_STEPS,
    ) -> EmbeddedBroker:
        """Make a broker on a file, which other processes may share.

        Its limits are the file's: those given hold for all who share it, until others are.

        Raises:
            UnusableFile: The file is damaged, of a newer version or not mq9's.
        """
        return cls(
            lambda steady, on_news: FileBackend(
                path,
                steady,
                limits,
                durability,
                on_news,
                AGENT_INDEX,
                max_read_steps=max_read_steps,
            ),
            clock,
            observer=observer,
            embeddings=embeddings,
            dialects=dialects,
            steady=SteadyClock(clock, longest_jump_ms=LONGEST_JUMP_MS, name=str(path)),
        )

    def _watch(self, watching: bool) -> None:
        self._backend.watch(watching)

    def handle(self, request: Request) -> Coroutine[Any, Any, bytes]:
        """Answer one request."""
        return self._service.handle(request)

    def carry_out(self, request: LocalRequest[R]) -> Coroutine[Any, Any, Reply[R]]:
        """Carry out one request; see `Service.carry_out`."""
        return self._service.carry_out(request)

    def forget(self, connection: str) -> None:
        """Forget a connection that has ended; see `Service.forget`."""
        self._service.forget(connection)

    def begin(
        self, request: Request, answer: Callable[[bytes], None], *, at_once: bool
    ) -> asyncio.Task[None] | None:
        """Begin to answer one request; see `Service.begin`."""
        return self._service.begin(request, answer, at_once=at_once)

    def make_undone(self, undo: Call[Undo], asker: str) -> None:
        """Take back, soon, a FETCH reply that reached nobody; see `Service.make_undone`."""
        self._service.make_undone(undo, asker)

    def feed(
        self, session: Session, mail_address: str, group_name: str | None, read_by: str | None
    ) -> Feed:
        """Return what gives a subscription the mail of a mailbox; see `Service.feed`."""
        return self._service.feed(session, mail_address, group_name, read_by)

    @property
    def waiting(self) -> int:
        """How many FETCHes and stateless reads wait for mail."""
        return len(self._waiters)

    @property
    def clock_offset_ms(self) -> int:
        """How far the broker's time is ahead of its clock; less than 0 where it is held back."""
        return self._steady.offset_ms

    def stop_waiting(self) -> None:
        """End every wait for mail, those to come included: a FETCH answers with what there is."""
        self._service.stop_waiting()

    async def sweep(self) -> None:
        """Remove all that is over, a bounded part at a time. Requests do so now and then, too.

        Raises:
            Mq9Error: The storage failed, or the broker is closed.
        """
        await self._service.sweep()

    async def claim(self, reserved: Reserved) -> Claimed:
        """Give configured agents what is stored under their names and addresses.

        Returns:
            What that changed, and what is closed to agents.

        Raises:
            Mq9Error: The storage failed, or the broker is closed.
        """
        return await self._service.claim(reserved)

    async def send_limits(self) -> int:
        """Count the mailboxes to which not everybody may send."""
        return await self._service.send_limits()

    async def check(self) -> None:
        """See whether the storage works.

        Raises:
            Mq9Error: It cannot be read, or it refused the last write less than 10 s ago, or the
                broker is closed.
        """
        await self._service.check()

    async def totals(self) -> Totals:
        """Count what the broker holds.

        Raises:
            Mq9Error: The storage failed, or the broker is closed.
        """
        return await self._service.totals()

    async def close(self) -> None:
        """Finish what was accepted, and tell whoever still waits that it is over."""
        await self._backend.close()
        self.closed()

    def end_threads(self) -> None:
        """End the threads that only make answers better or faster, until they are needed again."""
        self._service.close()

    def closed(self) -> None:
        """Let go of all but the backend, which somebody has closed, and of whoever still waits."""
        self._service.close()
        self._waiters.wake_all()
