"""A broker inside this process: service, backend and waiters put together."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar, Unpack

from mq9.broker.asked import LocalRequest
from mq9.broker.observer import Observer
from mq9.broker.service import Service
from mq9.broker.waiters import Waiters
from mq9.clock import LONGEST_JUMP_MS, Clock, SteadyClock
from mq9.dialects import Dialects, older_verbs
from mq9.discovery.embeddings import Embeddings
from mq9.discovery.index import AGENT_INDEX
from mq9.engine.commands import Limits
from mq9.protocol.outcomes import Reply
from mq9.storage import store
from mq9.storage.backend import MAX_STEPS, Backend, InlineBackend
from mq9.storage.file_backend import FileBackend
from mq9.storage.store import Durability

R = TypeVar("R")


class Broker(Protocol):
    """The part of a broker that a transport in the process uses."""

    @property
    def clock(self) -> Clock:
        """The clock that the broker lives by."""

    async def carry_out(self, request: LocalRequest[R]) -> Reply[R]:
        """Carry out one request, and return its result."""


class EmbeddedOptions(TypedDict, total=False):
    """Options of a broker with any backend."""

    observer: Observer | None  # gets the events
    embeddings: Embeddings | None  # let agents be found by meaning, and not by their words alone
    dialects: Dialects  # the generations of the protocol that it speaks; all by default


class EmbeddedBroker(Service):
    """Answers requests until it is closed.

    Args:
        make_backend: Creates the backend from its clock and a function for changes of other
            processes.
        clock: The clock.
        randomness: Returns a number of unpredictable bytes.
        steady: The clock of stored events. None: one that follows any jump of ``clock``.
        options: See `EmbeddedOptions`.
    """

    def __init__(
        self,
        make_backend: Callable[[SteadyClock, Callable[[str | None], None]], Backend],
        clock: Clock,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
        *,
        steady: SteadyClock | None = None,
        **options: Unpack[EmbeddedOptions],
    ) -> None:
        self.clock = clock
        self.dialects = dialects = options.get("dialects", Dialects.ALL)
        steady = steady or SteadyClock(clock)
        waiters = Waiters(lambda watching: backend.watch(watching))  # noqa: PLW0108  # it is made below
        backend = make_backend(steady, waiters.notify)
        super().__init__(
            backend,
            waiters,
            steady,
            randomness,
            observer=options.get("observer"),
            embeddings=options.get("embeddings"),
            older=older_verbs(dialects, is_sdk=False),
            of_sdks=older_verbs(dialects, is_sdk=True),
        )

    @classmethod
    def in_memory(
        cls,
        clock: Clock,
        *,
        limits: Limits = Limits(),
        **options: Unpack[EmbeddedOptions],
    ) -> EmbeddedBroker:
        """Make a broker whose state lives as long as it does."""
        return cls(
            lambda steady, _: InlineBackend(store.open_memory(), steady, limits, AGENT_INDEX),
            clock,
            **options,
        )

    @classmethod
    def on_file(
        cls,
        path: Path,
        clock: Clock,
        *,
        limits: Limits | None = None,
        durability: Durability = Durability.NORMAL,
        max_read_steps: int = MAX_STEPS,
        opens_when_full: bool = False,
        **options: Unpack[EmbeddedOptions],
    ) -> EmbeddedBroker:
        """Make a broker on a file, which other processes may share.

        The limits belong to the file: given ones hold for all programs that share it. With
        ``opens_when_full`` a full disk is no obstacle, but then no other process can open the file.
        UnusableFile is raised if the file is damaged, of a newer version, or not a file of mq9.
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
                opens_when_full=opens_when_full,
            ),
            clock,
            steady=SteadyClock(clock, longest_jump_ms=LONGEST_JUMP_MS, name=str(path)),
            **options,
        )
