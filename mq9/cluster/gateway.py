"""A member of the queue group that answers requests of mq9 on a NATS cluster.

A process that is suspended, by SIGSTOP or with its virtual machine, still gets requests. If it
answered them later, no client would wait any more, and leases would have no holder. So a gateway
sends itself heartbeats. Each one that arrives lets it serve for some seconds after it was sent. In
other times it drops requests. A connection keeps the order, so a resumed process gets the requests
from its suspension before its next heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from mq9.address import shown
from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.batches import plain_options
from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.official import PayloadForm
from mq9.clock import Clock, sleep
from mq9.cluster.callers import CALLERS, Callers, NoCallers
from mq9.cluster.inboxes import ReplySubjects
from mq9.engine.commands import Call, PlainSend, Undo
from mq9.errors import LimitReached, Mq9Error, PayloadTooLarge, Unauthorized
from mq9.protocol import replies, requests, subjects
from mq9.protocol.headers import PayloadEncoding
from mq9.protocol.verbs import verb_of

logger = logging.getLogger("mq9.broker")

QUEUE = "mq9"
STATUS_SUBJECT = "MQ9.gateways"  # every gateway answers with its status
SNAPSHOT_SUBJECT = "MQ9.snapshot"  # one gateway stores a snapshot
_BEAT_S = 1.0
_VALID_MS = 3_000  # how long a heartbeat lets the gateway serve, from its sending
_HEAD_BYTES = 4_096  # of a reply without its messages
_NOBODY = "503"  # the status of a server for: nobody is subscribed
_REFUSING_MS = 60_000  # the interval of log lines about refused reply subjects
_FETCH = subjects.encode(requests.Fetch)
_IMPORTED = "_R_."  # the reply subjects of requests through an import of another account
_MOST_BUSY = 10_000  # requests in progress, including those that wait for mail
_MOST_REMEMBERED = 1_024  # sessions, and headers of SENDs
_MOST_REMEMBERED_BYTES = 1_024  # of the headers of a SEND
_SENDS = f"{subjects.ROOT}{verb_of(requests.Send).name}."
_ID = re.compile(r"[!-~]{1,128}").fullmatch


class _Reply(NamedTuple):
    """A reply to publish."""

    to: str
    data: bytes
    lost: str = ""  # where the server reports that nobody is subscribed; "": nowhere


@dataclass(slots=True, eq=False)
class _WaitingClient:
    """A client that waits for a reply."""

    to: str
    caller: str | None = None
    is_fetch: bool = False
    undo: Call[Undo] | None = None  # takes back the leases of its FETCH

    def lease(self, undo: Call[Undo]) -> None:
        """Note the leases of its FETCH."""
        self.undo = undo


class Gateway:
    """Answers requests of mq9 on a NATS cluster."""

    def __init__(
        self,
        client: Client,
        broker: EmbeddedBroker,
        clock: Clock,
        name: str,
        is_able: Callable[[], bool],
        inboxes: ReplySubjects,
    ) -> None:
        self._client = client
        self._broker = broker
        self._clock = clock
        self._beat_subject = f"MQ9.gateway.{name}"
        self._lost_subject = f"{self._beat_subject}.lost"
        self._valid_until_ms = 0
        self._subscriptions: dict[str, Subscription] = {}  # of the queue group, by subject
        self._joined = asyncio.Event()
        self._chores: list[asyncio.Task[None]] = []
        self._tasks: dict[asyncio.Task[None], _WaitingClient] = {}
        # At most one for each request in progress.
        self._replies: list[_Reply] = []
        self._has_replies = asyncio.Event()
        self._has_written = asyncio.Event()  # all of them
        self._has_written.set()
        self._lost: Subscription | None = None
        self._rested = asyncio.Event()
        self.requests = 0
        self.refused = 0  # requests whose reply subject is not an inbox
        self._refused_ms: int | None = None  # when one was logged
        self._inboxes = inboxes
        self._callers: Callers = NoCallers()
        self._has_imports = False  # whether a FETCH came through an import
        self._encoding = PayloadEncoding.AUTO
        self._is_able = is_able
        self._starting = 0  # tasks that were made and have not run yet
        self._sessions = lru_cache(_MOST_REMEMBERED)(self._session)
        self.is_over = asyncio.Event()  # the broker failed, and the gateway has left
        self.is_draining = False

    async def start(
        self,
        callers: Callers | None = None,
        encoding: PayloadEncoding = PayloadEncoding.AUTO,
    ) -> None:
        """Join the queue group; return when the first heartbeat has arrived, and it has joined."""
        self._callers, self._encoding = callers or self._callers, encoding
        self._lost = await self._client.subscribe(f"{self._lost_subject}.>", cb=self._take_back)
        await self._client.subscribe(self._beat_subject, cb=self._hear)
        self._chores = [asyncio.create_task(self._beat()), asyncio.create_task(self._write_all())]
        await self._joined.wait()

    def sent_ms(self) -> int:
        """Return the earliest instant at which a request that is read now may have been sent here.

        A connection keeps the order, so it was sent after the last heartbeat that has arrived.
        """
        if not self._valid_until_ms:
            return self._clock.monotonic_ms()
        return self._valid_until_ms - _VALID_MS

    @property
    def is_serving(self) -> bool:
        """Whether it is in the queue group."""
        return bool(self._subscriptions)

    async def check_users(self) -> None:
        """Apply changed users: end the FETCHes of callers that are gone, which may wait long."""
        self._sessions.cache_clear()
        if self.is_serving:
            await self._join()
        for task, waiting in list(self._tasks.items()):
            is_gone = waiting.caller is not None and self._callers.caller(waiting.caller) is None
            if is_gone and waiting.is_fetch and task.cancel():
                self._answer(waiting, _failure(_unknown(waiting.caller)))

    async def _join(self) -> None:
        """Subscribe to requests, those of callers included if there are any."""
        wanted = [f"{subjects.ROOT}>", *([CALLERS] if self._callers.has_callers else [])]
        for subject in wanted:
            if subject not in self._subscriptions:
                self._subscriptions[subject] = await self._client.subscribe(
                    subject, queue=QUEUE, cb=self._begin
                )
        await self._client.flush()

    async def _beat(self) -> None:
        while self._is_able():
            if self.is_serving and self._is_stale():
                logger.warning("the gateway does not hear itself, and leaves the queue group")
                await self._leave()
            sent_ms = self._clock.monotonic_ms()
            with contextlib.suppress(nats.errors.Error):  # a lost heartbeat is noticed
                await self._client.publish(self._beat_subject, orjson.dumps(sent_ms))
            await sleep(self._clock, _BEAT_S)
        self._valid_until_ms = 0
        await self._leave()
        self.is_over.set()
        self._joined.set()

    async def _hear(self, message: Msg) -> None:
        self._valid_until_ms = orjson.loads(message.data) + _VALID_MS
        may_join = self._is_able() and not self.is_draining and not self._is_stale()
        if not self.is_serving and may_join:
            await self._join()
            self._joined.set()

    def _is_stale(self) -> bool:
        return self._clock.monotonic_ms() > self._valid_until_ms

    async def _leave(self) -> None:
        left, self._subscriptions = self._subscriptions, {}
        for subscription in left.values():
            with contextlib.suppress(nats.errors.Error):  # a closed connection has none
                await subscription.unsubscribe()

    async def _begin(self, message: Msg) -> None:
        if self._is_stale():
            return  # the client repeats the request at another gateway
        if message.reply and not self._inboxes.allows(message.reply):
            self._refuse(message)
            return
        if self.requests >= _MOST_BUSY:
            busy = LimitReached(f"the gateway is busy: it has {_MOST_BUSY} requests in work")
            self._write(_Reply(message.reply, _failure(busy)))
            return
        caller, subject = subjects.split_caller(message.subject)
        if caller is not None and self._callers.caller(caller) is None:
            self._write(_Reply(message.reply, _failure(_unknown(caller))))
            return
        session = self._sessions(_connection_of(message.reply), caller, self._client.max_payload)
        if self._begin_send(subject, message, session):
            return
        waiting = _WaitingClient(message.reply, caller, subject.startswith(_FETCH))
        if waiting.is_fetch and not self._has_imports and message.reply.startswith(_IMPORTED):
            self._has_imports = True
            logger.warning(
                "a FETCH came through an import of another NATS account: NATS does not report "
                "there that a client has gone, so a lease of one that dies in a FETCH lasts its "
                "whole time"
            )
        request = PublishedRequest(
            subject,
            message.data,
            tuple((message.headers or {}).items()),
            session,
            bool(message.reply),
            on_leased=waiting.lease,
        )
        self.requests += 1
        answer = partial(self._answer, waiting)
        task = self._broker.begin(request, answer, at_once=not self._starting)
        if task is not None:
            self._tasks[task] = waiting
            task.add_done_callback(self._tasks.pop)
            self._starting += 1
            asyncio.get_running_loop().call_soon(self._started)  # after the task has

    def _started(self) -> None:
        self._starting -= 1

    def _session(self, connection: str, caller: str | None, max_payload: int) -> BrokerSession:
        identity = None if caller is None else self._callers.caller(caller)
        return BrokerSession(
            # Another caller may name an inbox of this one, and must not be taken for it.
            connection if caller is None else f"{connection}@{caller}",
            None if identity is None else identity.agent,
            self._callers.reserved,
            is_stranger=identity is None,
            role=None if identity is None else identity.role,
            payloads=PayloadForm(self._encoding),
            is_told_apart="." in connection,  # otherwise each request may have its own inbox
            max_reply=max_payload - _HEAD_BYTES,
        )

    def _begin_send(self, subject: str, message: Msg, session: BrokerSession) -> bool:
        """Begin a SEND together with others of its client; False for every other request."""
        # One that comes behind a task must not overtake it.
        if self._starting or not subject.startswith(_SENDS) or not session.sends_plainly:
            return False
        address = self._broker.plain_address(subject)
        options = None if address is None else _read_options(message.headers)
        if address is None or options is None:
            return False
        self.requests += 1
        send = PlainSend(*options, message.data, message.reply)
        self._broker.begin_sends(session, address, [send], self._sent)
        return True

    def _sent(self, sends: Sequence[PlainSend], answers: Sequence[int | Mq9Error]) -> None:
        """Answer SENDs that were carried out together."""
        self._note_answered(len(sends))
        for send, answer in zip(sends, answers, strict=True):
            self._write(_Reply(send.origin, replies.encode_msg_id(answer).encode()))

    def _refuse(self, message: Msg) -> None:
        """Drop a request whose reply subject is not an inbox."""
        self.refused += 1
        now_ms = self._clock.monotonic_ms()
        if self._refused_ms is None or now_ms - self._refused_ms >= _REFUSING_MS:
            self._refused_ms = now_ms
            logger.warning(
                "a request to %s was not carried out: its reply subject %s is not an inbox; "
                "--reply-prefix names others (%d refused since the start)",
                shown(message.subject),
                shown(message.reply),
                self.refused,
            )

    def _answer(self, waiting: _WaitingClient, reply: bytes) -> None:
        self._note_answered(1)
        if len(reply) > self._client.max_payload:
            refusal = PayloadTooLarge(
                f"the reply has {len(reply)} bytes, more than the {self._client.max_payload} of "
                "the cluster; request fewer messages at once"
            )
            reply = _failure(refusal)
            if waiting.undo is not None:
                self._broker.undo_soon(waiting.undo, _connection_of(waiting.to))
                waiting.undo = None
        lost = ""
        if waiting.undo is not None:
            lost = f"{self._lost_subject}.{waiting.undo.request.batch}.{waiting.undo.address}"
        self._write(_Reply(waiting.to, reply, lost))

    def _note_answered(self, count: int) -> None:
        self.requests -= count
        if self.is_draining and not self.requests:
            self._rested.set()

    def _write(self, reply: _Reply) -> None:
        if reply.to:
            self._replies.append(reply)
            self._has_replies.set()
            self._has_written.clear()

    async def _take_back(self, message: Msg) -> None:
        """Take back the leases of a FETCH whose reply reached no subscriber."""
        headers = message.headers or {}
        if headers.get("Status") == _NOBODY:
            batch, _, address = message.subject[len(self._lost_subject) + 1 :].partition(".")
            connection = _connection_of(headers.get("Nats-Subject", ""))
            self._broker.undo_soon(Call(Undo(batch=batch), address), connection)

    async def _write_all(self) -> None:
        """Publish the replies in order."""
        while True:
            await self._has_replies.wait()
            self._has_replies.clear()
            written, self._replies = self._replies, []
            for reply in written:
                try:
                    await self._client.publish(reply.to, reply.data, reply.lost)
                except nats.errors.Error as error:  # the client repeats the request
                    logger.warning("a reply could not be published: %r", error)
            if not self._replies:
                self._has_written.set()

    async def drain(self) -> None:
        """Accept no more requests, and answer those in progress."""
        self.is_draining = True
        left, self._subscriptions = self._subscriptions, {}
        for subscription in left.values():
            # Requests that the server has already delivered are answered.
            await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py has no type for it
        self._broker.stop_waiting()
        if self.requests:
            await self._rested.wait()
        await self._has_written.wait()
        await self._client.flush()
        if self._lost is not None:
            await self._lost.drain()  # type: ignore[no-untyped-call]  # nats-py has no type for it

    async def close(self) -> None:
        """Stop, without answers to the requests in progress."""
        self.is_draining = True
        for task in [*self._chores, *self._tasks]:
            task.cancel()
        await asyncio.gather(*self._chores, *self._tasks, return_exceptions=True)


def _failure(error: Mq9Error) -> bytes:
    return replies.encode(replies.failure(error))


def _unknown(caller: str | None) -> Unauthorized:
    return Unauthorized(
        f"caller: {shown(caller)} is not a user of this gateway; an operator adds it: "
        "mq9 users add FILE --agent NAME --caller CALLER"
    )


def _read_options(found: dict[str, str] | None) -> tuple[requests.Send, str | None] | None:
    """Return the options of a SEND but for its id, and its id; None for one that is not plain."""
    rest = dict(found or {})
    id_ = rest.pop("mq9-id", None)
    if id_ is not None and not _ID(id_):
        return None  # it is refused
    pairs = tuple(rest.items())
    if sum([len(name) + len(value) for name, value in pairs]) > _MOST_REMEMBERED_BYTES:
        return None
    options = _plain_options(pairs)
    return None if options is None or options.id is not None else (options, id_)


_plain_options = lru_cache(_MOST_REMEMBERED)(plain_options)


def _connection_of(reply: str) -> str:
    """Return an id of the client's connection.

    NATS clients use one inbox for each connection. The last token of a reply subject is that of the
    request.
    """
    return reply.rpartition(".")[0] or reply
