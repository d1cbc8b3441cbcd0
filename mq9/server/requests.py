"""The requests of mq9 that one client has in work."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.batches import plain_options
from mq9.dialects import OLDER
from mq9.engine.commands import PlainSend
from mq9.errors import InvalidRequest, LimitReached, Mq9Error, PayloadTooLarge, Unavailable
from mq9.protocol import replies, subjects
from mq9.protocol.headers import Headers
from mq9.protocol.requests import Fetch, Send
from mq9.protocol.verbs import VERBS, verb_of
from mq9.server.limits import MAX_HEADER_BYTES
from mq9.server.subscriptions import Subscription
from mq9.wire import headers as blocks
from mq9.wire.parser import Frame, Publish
from mq9.wire.subjects import matches

if TYPE_CHECKING:
    from mq9.server.session import ClientSession

logger = logging.getLogger("mq9.broker")

_VERBS = [*VERBS.values(), *(verb for verbs in OLDER.values() for verb in verbs)]
_FETCHES = tuple(f"{subjects.ROOT}{verb.name}." for verb in _VERBS if verb.request is Fetch)
_READS = (*_FETCHES, *(f"{subjects.ROOT}{verb.name}" for verb in _VERBS if verb.reads))
_SENDS = f"{subjects.ROOT}{verb_of(Send).name}."
_PLAIN = Send()
_ID = re.compile(rb"\r\nmq9-id: ?([!-~]{1,128})(?=\r\n)").search
_MOST_REMEMBERED = 1_024  # blocks of headers
_MOST_REMEMBERED_BYTES = 1_024  # of one
_READ_BYTES = 64 * 1024  # the size that a read counts for: its reply may be large


@dataclass(slots=True, eq=False)
class _InWork:
    """A request in work."""

    reply: str | None  # where its reply goes
    size: int  # its share of the bytes
    waits: bool = False  # a FETCH, for mail
    task: asyncio.Task[None] | None = None  # if it takes one


class Requests:
    """The requests of mq9 that one client has in work, bounded in number and bytes."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._hub = session.hub
        self._own = session.subscriptions.own
        self._busy = 0  # how many are in work and do not wait for mail
        self._bytes = 0
        self.fetches: dict[_InWork, asyncio.Task[None]] = {}
        self._starting = 0  # tasks that were made and have not run yet
        self._asked_by: BrokerSession | None = None
        self._sends_plainly = False  # by the session of the last request

    @property
    def is_full(self) -> bool:
        """Whether a further one has to wait."""
        limits = self._hub.limits
        return self._busy >= limits.max_busy or self._bytes >= limits.max_busy_bytes

    def begin(self, frame: Publish, broker_session: BrokerSession) -> None:
        """Begin to answer a request, or refuse it."""
        subject, to, block, payload = frame
        is_fetch = subject.startswith(_FETCHES)
        try:
            self._check(is_fetch)
            found = _read(block)
        except Mq9Error as error:
            self._session.answer(to, replies.encode(replies.failure(error)))
            return
        size = len(block) + len(payload)
        if subject.startswith(_READS):
            size += _READ_BYTES
        one = _InWork(to, size)
        self._busy += 1
        self._bytes += size
        self._hub.count_requests(1)
        answer = partial(self._answered, one)
        if is_fetch:
            # Without a subscription for its reply, its leases would reach no client.
            wants_reply = to is not None and self._own.has_interest(to)
            on_wait = partial(self._begin_to_wait, one)
            request = PublishedRequest(
                subject, payload, found, broker_session, wants_reply, on_wait
            )
        else:
            request = PublishedRequest(subject, payload, found, broker_session)
        one.task = self._hub.broker.begin(request, answer, at_once=not self._starting)
        if one.task is not None:
            one.task.add_done_callback(partial(self._ended, one))
            self._starting += 1
            asyncio.get_running_loop().call_soon(self._started)  # after the task has
            if is_fetch:
                self.fetches[one] = one.task

    def begin_sends(self, frames: deque[Frame], session: BrokerSession) -> bool:
        """Begin the SENDs to one mailbox in front of all frames, and take them from there.

        False where the first frame is to be looked at by itself.
        """
        first = frames[0]
        # One that comes behind a task must not overtake it.
        if not isinstance(first, Publish) or self._starting or self._hub.draining:
            return False
        if session is not self._asked_by:
            self._asked_by, self._sends_plainly = session, session.sends_plainly
        if not self._sends_plainly or not first.subject.startswith(_SENDS):
            return False
        subject = first.subject
        address = self._hub.broker.plain_address(subject)
        if address is None:
            return False
        sends: list[PlainSend] = []
        while frames and not self.is_full:
            frame = frames[0]
            if not isinstance(frame, Publish) or frame.subject != subject:
                break
            options = _read_options(frame.block)
            if options is None:
                break
            sends.append(PlainSend(*options, frame.payload, frame))
            self._busy += 1
            self._bytes += len(frame.block) + len(frame.payload)
            frames.popleft()
        if sends:
            self._hub.count_requests(len(sends))
            self._hub.broker.begin_sends(session, address, sends, self._sent)
        return bool(sends)

    def _sent(self, sends: Sequence[PlainSend], answers: Sequence[int | Mq9Error]) -> None:
        """Answer SENDs that were carried out together."""
        frames: list[Publish] = [send.origin for send in sends]
        try:
            told = [
                (frame.reply, replies.encode_msg_id(answer))
                for frame, answer in zip(frames, answers, strict=True)
            ]
            self._session.answer_all(told)
        finally:
            self._busy -= len(frames)
            self._bytes -= sum([len(frame.block) + len(frame.payload) for frame in frames])
            self._hub.count_requests(-len(frames))
            self._session.connection.resume()

    def cancel_fetches(self) -> None:
        """End the FETCHes: the client can no longer be answered."""
        for task in self.fetches.values():
            task.cancel()

    def cancel_unheard(self, ended: Subscription) -> None:
        """End the FETCHes whose reply has no subscriber after the end of a subscription."""
        for one, task in self.fetches.items():
            reply = one.reply
            if (
                reply is not None
                and matches(ended.subject, reply)
                and not self._own.has_interest(reply)
            ):
                task.cancel()

    def _check(self, is_fetch: bool) -> None:
        """Raise why a request cannot be begun now."""
        if self._hub.draining:
            raise Unavailable("the broker is about to stop and did nothing; repeat the request")
        if is_fetch and len(self.fetches) >= self._hub.limits.max_waiting:
            raise LimitReached(f"max_waiting: {len(self.fetches)} FETCHes of this connection wait")

    def _started(self) -> None:
        self._starting -= 1

    def _begin_to_wait(self, one: _InWork) -> None:
        """Count a FETCH no longer, since it is about to wait for mail."""
        self._relieve(one)
        one.waits = True
        self._session.connection.resume()

    def _relieve(self, one: _InWork) -> None:
        """Take a request off those that keep others from being begun."""
        if not one.waits:
            self._busy -= 1
            self._bytes -= one.size

    def _answered(self, one: _InWork, reply: bytes) -> None:
        try:
            self._session.answer(one.reply, reply)
        finally:
            if one.task is None:
                self._end(one)

    def _ended(self, one: _InWork, task: asyncio.Task[None]) -> None:
        """Note that a task has ended."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("%s: a request failed unexpectedly", self._session.name, exc_info=error)
        self.fetches.pop(one, None)
        self._end(one)

    def _end(self, one: _InWork) -> None:
        self._relieve(one)
        self._hub.count_requests(-1)
        self._session.connection.resume()


def _read_options(block: bytes) -> tuple[Send, str | None] | None:
    """Return the options of a SEND but for its id, and its id; None for one that is not plain."""
    if not block:
        return _PLAIN, None
    if len(block) > _MOST_REMEMBERED_BYTES:
        return None
    found = _ID(block)
    if found is None:
        rest, id_ = block, None
    else:
        rest, id_ = block[: found.start()] + block[found.end() :], found[1].decode()
    options = _plain_options(rest)
    return None if options is None else (options, id_)


@lru_cache(_MOST_REMEMBERED)
def _plain_options(block: bytes) -> Send | None:
    """Return the options in a block without an id; None if it is not plain, or refused."""
    try:
        options = plain_options(blocks.decode(block))
    except ValueError:
        return None
    return options if options is not None and options.id is None else None


def _read(block: bytes) -> Headers:
    """Return the headers of a request of mq9."""
    if len(block) > MAX_HEADER_BYTES:
        raise PayloadTooLarge(f"headers: {len(block)} bytes are more than {MAX_HEADER_BYTES}")
    try:
        return blocks.decode(block)
    except ValueError as error:
        raise InvalidRequest(f"headers: {error}") from None
