"""The log as a stream of NATS JetStream.

A gateway hears new records from a consumer of its own, which delivers to an inbox of the gateway.
It reads all others by direct gets, which any server with a replica answers. Both come from the
stream itself, to subjects that nobody else knows: a publisher cannot forge a record. The consumer
is in the memory of one server. When that server ends, the gateway reads until it has made another.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext, api

from mq9.clock import Clock, sleep
from mq9.cluster.log import Last, Logged, Purged, Replaced
from mq9.errors import InvalidRequest, OutcomeUnknown, Unavailable

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

NAME = "MQ9"
_REMEMBERED_S = 120.0  # by the stream, ids of records
_APPENDING_MS = 20_000  # how long a record is tried; far less than its id is remembered
_ASKING_MS = 5_000
_TRY_S = 2.0
_PAUSE_S = 0.05  # before the next try
_LATER_S = 0.5  # for the leader to answer, where another server has answered first
_MOVING_MS = 5_000  # without an answer, after which another server is asked
NO_CLUSTER = 10074  # JetStream's code where one server has to store what is stored on several
_NAME_IN_USE = 10058  # JetStream's code for a stream that has another configuration
_OF_RECORDS = re.compile(r"\.append(\.[0-9a-z]+)?")  # the subject, behind the name
_LEADING_NS = 3_000_000_000  # others elect a leader 4 s after they have heard one, or later
_BATCH = 512
_BATCH_BYTES = 8 * 1024 * 1024
_ABSENT_NS = 30_000_000_000  # without its gateway, after which a consumer is removed
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _NotLeadingError(nats.errors.Error):
    """The server that answered may not be the leader any more."""


_UNANSWERED = (nats.errors.TimeoutError, nats.errors.NoRespondersError, _NotLeadingError)
_STEP_ERRORS = (nats.errors.Error, OSError)  # of one try, which may go well the next time


@asynccontextmanager
async def inbox_of(client: Client, max_msgs: int = 0) -> AsyncIterator[tuple[str, Subscription]]:
    """Give an inbox and its subscription, which ends with the block."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, max_msgs=max_msgs)
    try:
        yield inbox, subscription
    finally:
        await subscription.unsubscribe()


class JetStreamLog:
    """A log on the stream of a cluster."""

    def __init__(self, client: Client, clock: Clock, name: str = NAME) -> None:
        self._client = client
        self._clock = clock
        self.name = name
        self.created = ""  # when the stream was created: tells it from a former one
        self.replicas = 0  # servers that store it
        self._append = f"{name}.append"
        self._consumer = f"$JS.API.CONSUMER.CREATE.{name}"
        self._info = f"$JS.API.STREAM.INFO.{name}"
        self._direct = f"$JS.API.DIRECT.GET.{name}"
        self._moved_ms: int | None = None
        self._heard: Subscription | None = None  # what the consumer delivers

    @property
    def identity(self) -> str:
        """The identity of the log, after ``open``.

        It is the last token of the subject of its records. So a record that is meant for one log
        never gets into another, which may have taken its place. A log that was created by an older
        release has no such token: its time of creation is its identity.
        """
        return self._append.removeprefix(f"{self.name}.append").removeprefix(".") or self.created

    async def open(self) -> bool:
        """Look for the log; return whether it exists."""

        async def look() -> api.StreamInfo | None:
            try:
                return await self._stream.stream_info(self.name)
            except nats.js.errors.NotFoundError:
                return None

        info = await self._try(look, _APPENDING_MS, "the cluster's log cannot be found")
        if info is not None:
            self._note(info)
        return info is not None

    async def create(self, replicas: int, identity: str) -> None:
        """Create the log on so many servers, or on one if there is only one.

        Several gateways may create a log of one identity at the same time.
        """
        wanted = api.StreamConfig(
            name=self.name,
            description="The log of mq9",
            subjects=[f"{self.name}.append.{identity}"],
            num_replicas=replicas,
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.NEW,  # else it would lose its first records
            duplicate_window=_REMEMBERED_S,
            allow_direct=True,
            deny_delete=True,
        )

        async def add() -> api.StreamInfo:
            try:
                return await self._stream.add_stream(wanted)
            except nats.js.errors.APIError as error:
                if error.err_code == _NAME_IN_USE:  # by one with another number of replicas
                    return await self._stream.stream_info(self.name)
                if error.err_code != NO_CLUSTER:
                    raise
            wanted.num_replicas = 1
            return await self._stream.add_stream(wanted)

        self._note(await self._try(add, _APPENDING_MS, "the log cannot be created"))

    @property
    def _stream(self) -> JetStreamContext:
        return self._client.jetstream(timeout=_TRY_S)

    def _note(self, info: api.StreamInfo) -> None:
        [subject, *others] = info.config.subjects or [""]
        if others or not _OF_RECORDS.fullmatch(subject.removeprefix(self.name)):
            raise InvalidRequest(f"cluster: the stream {self.name} there is not a log of mq9")
        self._append, self.created = subject, str(info.created)
        self.replicas = info.config.num_replicas or 1

    async def append(self, data: bytes, record_id: str) -> int:
        """Append a record once, however often it is tried; return its number."""
        headers = {api.Header.MSG_ID.value: record_id}

        async def publish() -> int:
            reply = await self._client.request(self._append, data, timeout=_TRY_S, headers=headers)
            told = _told(reply)
            return int(told["seq"])

        failed = "the cluster's log did not say that it has the request; the outcome is unknown"
        return await self._try(publish, _APPENDING_MS, failed, OutcomeUnknown)

    async def last(self) -> Last:
        """Return the number of the last record that the log has, and what time it is there."""
        told = await self._told_by_leader()
        return Last(int(told["state"]["last_seq"]), _milliseconds(told["ts"]))

    async def first(self) -> int:
        """Return the number of the first record that the log still has."""
        return int((await self._told_by_leader())["state"]["first_seq"])

    async def _told_by_leader(self) -> dict[str, Any]:
        async def look() -> dict[str, Any]:
            told = _told(await self._client.request(self._info, b"", timeout=_TRY_S))
            return told if _leads(told.get("cluster")) else await self._told_later()

        told = await self._try(look, _ASKING_MS, "the cluster's log did not answer")
        if self.created and not self._is_of_this_log(told):
            raise Replaced
        return told

    def _is_of_this_log(self, info: dict[str, Any]) -> bool:
        if self.identity != self.created:
            return bool(info["config"]["subjects"] == [self._append])
        return str(api.StreamInfo.from_response(dict(info)).created) == self.created

    async def _told_later(self) -> dict[str, Any]:
        """Return what the leader tells after another server, which has failed or was cut off."""
        async with inbox_of(self._client) as (inbox, replies):
            await self._client.publish(self._info, b"", reply=inbox)
            while True:
                try:
                    told = _told(await replies.next_msg(timeout=_LATER_S))
                except nats.errors.TimeoutError:
                    said = "the server that answered may not be the leader any more"
                    raise _NotLeadingError(said) from None
                if _leads(told.get("cluster")):
                    return told

    async def read(self, first: int) -> list[Logged]:
        """Return some records from a number on, as far as there are any."""

        async def get() -> list[Logged]:
            return await self._get(first)

        records = await self._try(get, _ASKING_MS, "the cluster's log cannot be read")
        if not records or records[0].sequence == first:
            return records
        if await self.first() > first:
            raise Purged
        return []  # the first was lost on its way

    async def _get(self, first: int) -> list[Logged]:
        async with inbox_of(self._client, _BATCH + 1) as (inbox, replies):
            wanted = {"seq": first, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
            await self._client.publish(self._direct, orjson.dumps(wanted), reply=inbox)
            records: list[Logged] = []
            while True:
                message = await replies.next_msg(timeout=_TRY_S)
                status = (message.headers or {}).get(api.Header.STATUS.value)
                if status in {"204", "404"}:  # there are no more, or none
                    return records
                if status is not None:
                    raise nats.errors.Error(f"status {status}")
                records.append(_logged(message))

    async def follow(self, on_logged: Callable[[Logged], None]) -> int:
        """Be told of what is appended after a record; return the number of that record."""

        async def hear(message: Msg) -> None:
            if message.subject == self._append:
                on_logged(_delivered(message))

        inbox = self._client.new_inbox()
        former, self._heard = (
            self._heard,
            await self._client.subscribe(inbox, cb=hear, pending_bytes_limit=_BATCH_BYTES * 8),
        )
        if former is not None:
            await former.unsubscribe()
        name = inbox.rpartition(".")[2]
        config = {
            "name": name,
            "deliver_subject": inbox,
            "deliver_policy": "new",
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _ABSENT_NS,
        }
        wanted = orjson.dumps({"stream_name": self.name, "config": config})

        async def make() -> int:
            subject = f"{self._consumer}.{name}"
            told = _told(await self._client.request(subject, wanted, timeout=_TRY_S))
            return int(told["delivered"]["stream_seq"])

        return await self._try(make, _ASKING_MS, "the cluster's log does not tell of new records")

    async def _try(
        self,
        step: Callable[[], Awaitable[R]],
        most_ms: int,
        failed: str,
        kind: type[Unavailable] = Unavailable,
    ) -> R:
        """Try a step until it goes well, or so many milliseconds are over."""
        begun_ms = self._clock.monotonic_ms()
        for attempt in itertools.count():
            try:
                return await step()
            except _STEP_ERRORS as error:
                if isinstance(error, _UNANSWERED):
                    await self._move(begun_ms)
                if self._clock.monotonic_ms() >= begun_ms + most_ms or self._client.is_closed:
                    raise kind(f"{failed}: {error!r}") from error
                if attempt == 1:
                    logger.warning("%s yet: %r", failed, error)
            await sleep(self._clock, _PAUSE_S)
        raise AssertionError  # it counts for ever

    async def _move(self, begun_ms: int) -> None:
        """Go to another server where this one has reached no leader of the log for long."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - max(begun_ms, self._moved_ms or begun_ms) >= _MOVING_MS:
            self._moved_ms = now_ms
            logger.warning("this server reaches nobody who leads the log; another one is asked")
            await self._client.force_reconnect()


def _told(reply: Msg) -> dict[str, Any]:
    """Return what a server said."""
    try:
        told = orjson.loads(reply.data)
    except orjson.JSONDecodeError as error:
        raise nats.errors.Error(f"not JSON: {error}") from None
    if "error" in told:
        raise nats.errors.Error(str(told["error"].get("description", told["error"])))
    return dict(told)


def _leads(cluster: dict[str, Any] | None) -> bool:
    """Tell whether the server that says this of itself certainly leads the stream.

    One that is cut off from the others answers as if it did, for some 20 s, and then as a server
    that knows no leader: with what it had when it was cut off.
    """
    if cluster is None:
        return True  # there is no other server
    others = cluster.get("replicas") or []
    # 0 stands for one that it has not heard at all.
    heard = sum(0 < other["active"] < _LEADING_NS for other in others)
    return bool(cluster.get("leader")) and 2 * (heard + 1) > len(others) + 1


def _logged(message: Msg) -> Logged:
    """Return a record that a direct get has given."""
    headers = message.headers or {}
    now_ms = _milliseconds(headers["Nats-Time-Stamp"])
    return Logged(int(headers["Nats-Sequence"]), now_ms, message.data)


def _delivered(message: Msg) -> Logged:
    """Return a record that a consumer has delivered."""
    # $JS.ACK.….<delivered>.<sequence in the stream>.<of the consumer>.<nanoseconds>.<pending>
    *_, sequence, _, stamp, _ = message.reply.split(".")
    return Logged(int(sequence), _as_milliseconds(int(stamp) // 1000), message.data)


def _milliseconds(stamp: str) -> int:
    return _as_milliseconds((datetime.fromisoformat(stamp) - _EPOCH) // _MICROSECOND)


def _as_milliseconds(microseconds: int) -> int:
    """Return an instant as every release reads it, so that all gateways come to one state."""
    return int(microseconds / 1_000_000 * 1_000)
