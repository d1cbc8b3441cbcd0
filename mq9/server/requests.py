"""The requests of mq9 that one client has in work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
from mq9.wire.parser import Publish
from mq9.wire.subjects import matches

logger = logging.getLogger("mq9.broker")

_VERBS = [*VERBS.values(), *(verb for verbs in OLDER.values() for verb in verbs)]
_FETCHES = tuple(f"{subjects.ROOT}{verb.name}." for verb in _VERBS if verb.request is Fetch)
_READS = (*_FETCHES, *(f"{subjects.ROOT}{verb.name}" for verb in _VERBS if verb.reads))
_READ_BYTES = 64 * 1024  # what a read counts for: it asks in few words for much


@dataclass(slots=True, eq=False)
class _InWork:
    """A request in work.

    Attributes:
        reply: Where its reply goes.
        size: Its share of the bytes.
        waits: Whether it is a FETCH that waits for mail.
        task: What answers it, where that takes a task.
    """

    reply: str | None
    size: int
    waits: bool = False
    task: asyncio.Task[None] | None = None


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
        self._busy = 0  # how many are in work and do not wait for mail
        self._bytes = 0
        self._fetches: set[_InWork] = set()
        self._starting = 0  # tasks that were made and have not run yet

    @property
    def is_full(self) -> bool:
        """Whether a further one has to wait."""
        limits = self._hub.limits
        return self._busy >= limits.max_busy or self._bytes >= limits.max_busy_bytes

    def begin(self, frame: Publish, asker: Asker) -> None:
        """Begin to answer a request, or refuse it.

        Args:
            frame: What the client published.
            asker: Who the client is.
        """
        subject, to, block, payload = frame
        is_fetch = subject.startswith(_FETCHES)
        try:
            self._check(is_fetch)
            headers = _read(block)
        except Mq9Error as error:
            self._answer(to, replies.encode(replies.failure(error)))
            return
        size = len(block) + len(payload)
        if subject.startswith(_READS):
            size += _READ_BYTES
        one = _InWork(to, size)
        self._busy += 1
        self._bytes += size
        self._hub.in_work.add()
        answer = partial(self._answered, one)
        if is_fetch:
            # Its reply must have somewhere to go, or its lease would be nobody's.
            wants_reply = to is not None and self._subscriptions.has_interest(to)
            on_wait = partial(self._begin_to_wait, one)
            request = Request(subject, payload, headers, asker, wants_reply, on_wait)
        else:
            request = Request(subject, payload, headers, asker)
        one.task = self._hub.begin(request, answer, at_once=not self._starting)
        if one.task is not None:
            one.task.add_done_callback(partial(self._ended, one))
            self._starting += 1
            asyncio.get_running_loop().call_soon(self._started)  # after the task has
            if is_fetch:
                self._fetches.add(one)

    def cancel_fetches(self) -> None:
        """End the FETCHes: the client can no longer be answered."""
        for one in self._fetches:
            _cancel(one)

    def cancel_unheard(self, ended: Subscription) -> None:
        """End the FETCHes whose reply nobody listens to, now that a subscription has ended."""
        for one in self._fetches:
            reply = one.reply
            if (
                reply is not None
                and matches(ended.subject, reply)
                and not self._subscriptions.has_interest(reply)
            ):
                _cancel(one)

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

    def _started(self) -> None:
        self._starting -= 1

    def _begin_to_wait(self, one: _InWork) -> None:
        """Count a FETCH no longer, since it is about to wait for mail."""
        self._relieve(one)
        one.waits = True
        self._resume()

    def _relieve(self, one: _InWork) -> None:
        """Take a request off those that keep others from being begun."""
        if not one.waits:
            self._busy -= 1
            self._bytes -= one.size

    def _answered(self, one: _InWork, reply: bytes) -> None:
        try:
            self._answer(one.reply, reply)
        finally:
            if one.task is None:
                self._end(one)

    def _ended(self, one: _InWork, task: asyncio.Task[None]) -> None:
        """Note that a task has ended."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("%s: a request failed unexpectedly", self._name, exc_info=error)
        self._fetches.discard(one)
        self._end(one)

    def _end(self, one: _InWork) -> None:
        self._relieve(one)
        self._hub.in_work.remove()
        self._resume()


def _cancel(one: _InWork) -> None:
    assert one.task is not None  # noqa: S101  # a FETCH takes a task
    one.task.cancel()


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
