"""The requests of mq9 that one client has in work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mq9.broker.service import Request
from mq9.broker.service import Session as Asker
from mq9.dialects import OLDER
from mq9.errors import (
    InvalidRequest,
    LimitReached,
    Mq9Error,
    PayloadTooLarge,
    Unavailable,
)
from mq9.protocol import replies, subjects
from mq9.protocol.headers import Headers
from mq9.protocol.requests import Fetch
from mq9.protocol.verbs import VERBS
from mq9.server.hub import Hub
from mq9.server.limits import MAX_HEADER_BYTES
from mq9.server.subscriptions import Subscription, Subscriptions
from mq9.wire import headers as blocks
from mq9.wire.frames import Publish
from mq9.wire.subjects import matches

logger = logging.getLogger("mq9.broker")

_VERBS = [*VERBS.values(), *(verb for verbs in OLDER.values() for verb in verbs)]
_FETCHES = tuple(f"{subjects.ROOT}{verb.name}." for verb in _VERBS if verb.request is Fetch)
_READS = (*_FETCHES, *(f"{subjects.ROOT}{verb.name}" for verb in _VERBS if verb.reads))
_READ_BYTES = 64 * 1024  # what a read counts for: it asks in few words for much


class Requests:
    """The requests of mq9 that one client has in work, bounded in number and bytes.

    Args:
        hub: Answers them, and knows the limits.
        subscriptions: The client's, where its replies go.
        answer: Sends a reply to the client's own subscriptions to a subject.
        resume: Called when there may be place for a further one.
        name: The client's name, for the log.
    """

    def __init__(
        self,
        hub: Hub,
        subscriptions: Subscriptions,
        answer: Callable[[str | None, bytes], None],
        resume: Callable[[], None],
        name: str,
    ) -> None:
        self._hub = hub
        self._subscriptions = subscriptions
        self._answer = answer
        self._resume = resume
        self._name = name
        self._tasks: dict[asyncio.Task[None], int] = {}  # and its share of the bytes
        self._bytes = 0
        self._fetches: dict[asyncio.Task[None], str] = {}  # and where the reply goes
        self._waiting = 0  # FETCHes that wait for mail

    @property
    def is_full(self) -> bool:
        """Whether a further one has to wait."""
        limits = self._hub.limits
        return (
            len(self._tasks) - self._waiting >= limits.max_busy
            or self._bytes >= limits.max_busy_bytes
        )

    def begin(self, frame: Publish, asker: Asker) -> None:
        """Begin to answer a request, or refuse it.

        Args:
            frame: What the client published.
            asker: Who the client is.
        """
        is_fetch = frame.subject.startswith(_FETCHES)
        try:
            self._check(is_fetch)
            headers = _read(frame.block)
        except Mq9Error as error:
            self._answer(frame.reply, replies.encode(replies.failure(error)))
            return
        # The reply of a FETCH must have somewhere to go, or its lease would be nobody's.
        wants_reply = not is_fetch or (
            frame.reply is not None and self._subscriptions.has_interest(frame.reply)
        )
        task = asyncio.create_task(self._carry_out(frame, headers, asker, wants_reply))
        size = len(frame.block) + len(frame.payload)
        if frame.subject.startswith(_READS):
            size += _READ_BYTES
        self._tasks[task] = size
        self._bytes += size
        self._hub.tasks.add(task)
        if is_fetch and frame.reply is not None:
            self._fetches[task] = frame.reply
        task.add_done_callback(self._done)

    def cancel_fetches(self) -> None:
        """End the FETCHes: the client can no longer be answered."""
        for task in list(self._fetches):
            task.cancel()

    def cancel_unheard(self, ended: Subscription) -> None:
        """End the FETCHes whose reply nobody listens to, now that a subscription has ended."""
        for task, reply in list(self._fetches.items()):
            if matches(ended.subject, reply) and not self._subscriptions.has_interest(reply):
                task.cancel()

    @property
    def has_fetches(self) -> bool:
        """Whether any of them is a FETCH."""
        return bool(self._fetches)

    def _check(self, is_fetch: bool) -> None:
        """Raise why a request cannot be begun now."""
        if self._hub.draining:
            raise Unavailable("the broker is about to stop and did nothing; repeat the request")
        if is_fetch and len(self._fetches) >= self._hub.limits.max_waiting:
            raise LimitReached(f"max_waiting: {len(self._fetches)} FETCHes of this connection wait")

    async def _carry_out(
        self, frame: Publish, headers: Headers, asker: Asker, wants_reply: bool
    ) -> None:
        waiting = False

        def begin_to_wait() -> None:
            nonlocal waiting
            waiting = True
            self._waiting += 1
            self._relieve(asyncio.current_task())
            self._resume()

        request = Request(frame.subject, frame.payload, headers, asker, wants_reply, begin_to_wait)
        try:
            reply = await self._hub.handle(request)
        finally:
            self._waiting -= waiting
        self._answer(frame.reply, reply)

    def _relieve(self, task: asyncio.Task[None] | None) -> None:
        """Take the bytes of a task off those in work."""
        assert task is not None  # noqa: S101  # it is one of ours
        self._bytes -= self._tasks[task]
        self._tasks[task] = 0

    def _done(self, task: asyncio.Task[None]) -> None:
        self._relieve(task)
        del self._tasks[task]
        self._hub.tasks.discard(task)
        self._fetches.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("%s: a request failed unexpectedly", self._name, exc_info=error)
        self._resume()


def _read(block: bytes) -> Headers:
    """Return the headers of a request of mq9.

    Raises:
        PayloadTooLarge: There are too many.
        InvalidRequest: They cannot be read.
    """
    if len(block) > MAX_HEADER_BYTES:
        raise PayloadTooLarge(f"headers: {len(block)} bytes are more than {MAX_HEADER_BYTES}")
    try:
        return blocks.decode(block)
    except ValueError as error:
        raise InvalidRequest(f"headers: {error}") from None
