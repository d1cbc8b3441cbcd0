"""The log as a stream of NATS JetStream.

A consumer of its own delivers new records to an inbox of the gateway. The gateway reads all others
by direct gets, which any server with a replica answers. Both come from the stream to secret
subjects, so a publisher cannot forge a record. The consumer is in the memory of one server.
When that server ends, the gateway reads until it has created another consumer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext, api

from mq9.clock import Clock, sleep
from mq9.cluster.answers import (
    RefusedError,
    answer_of,
    delivered_of,
    leads,
    logged_of,
    milliseconds,
)
from mq9.cluster.log import Account, Last, Logged, Purged, Replaced
from mq9.cluster.room import SERVERS_FULL, refusal_of
from mq9.errors import InvalidRequest, LimitReached, OutcomeUnknown, Unavailable

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

NAME = "MQ9"
_ACCOUNT = "$JS.API.INFO"
_REMEMBERED_S = 120.0  # how long the stream remembers ids of records
_APPENDING_MS = 20_000  # how long an append is tried; far less than the id is remembered
_ASKING_MS = 5_000
_TRY_S = 2.0
_PAUSE_S = 0.05  # before the next try
_FULL_MS = 2_000  # in which another server may lead, which has room; less than a client waits
_LATER_S = 0.5  # for the leader to answer after another server
_MOVING_MS = 5_000  # without an answer, until the connection moves to another server
NO_CLUSTER = 10074  # JetStream's code for several replicas on a single server
_NAME_IN_USE = 10058  # JetStream's code for a stream that has another configuration
_OF_RECORDS = re.compile(r"\.append(\.[0-9a-z]+)?")  # the subject, behind the name
_BATCH = 512
_BATCH_BYTES = 8 * 1024 * 1024
_ABSENT_NS = 30_000_000_000  # after which a consumer without its gateway is removed


class _NotLeadingError(nats.errors.Error):
    """The server that answered may no longer be the leader."""


_UNANSWERED = (nats.errors.TimeoutError, nats.errors.NoRespondersError, _NotLeadingError)
_STEP_ERRORS = (nats.errors.Error, OSError)  # of one try; the next may succeed


@asynccontextmanager
async def inbox_of(client: Client, max_msgs: int = 0) -> AsyncIterator[tuple[str, Subscription]]:
    """Yield an inbox and its subscription, which ends with the block."""
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
        self.created = ""  # the creation time of the stream
        self.replicas = 0  # servers that store it
        self._append = f"{name}.append"
        self._consumer = f"$JS.API.CONSUMER.CREATE.{name}"
        self._info = f"$JS.API.STREAM.INFO.{name}"
        self._direct = f"$JS.API.DIRECT.GET.{name}"
        self._moved_ms: int | None = None
        self._heard: Subscription | None = None  # to the deliveries of the consumer

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
        """Append a record exactly once, with several tries; return its number.

        Raises:
            LimitReached: JetStream has no room for it; it was not stored.
            OutcomeUnknown: It may have been stored.
        """
        headers = {api.Header.MSG_ID.value: record_id}
        begun_ms = self._clock.monotonic_ms()
        may_have_it = False

        async def publish() -> int:
            nonlocal may_have_it
            try:
                request = self._client.request(self._append, data, timeout=_TRY_S, headers=headers)
                return int(answer_of(await request)["seq"])
            except RefusedError as error:
                full = refusal_of(error.code, error.description)
                is_soon = self._clock.monotonic_ms() < begun_ms + _FULL_MS
                may_have_it = may_have_it or full is None  # others may have stored it
                if full is None or may_have_it or (error.code == SERVERS_FULL and is_soon):
                    raise
                raise LimitReached(full) from error
            except nats.errors.NoRespondersError:
                raise
            except _STEP_ERRORS:
                may_have_it = True
                raise

        failed = "the cluster's log did not confirm the request; the outcome is unknown"
        return await self._try(publish, _APPENDING_MS, failed, OutcomeUnknown)

    async def last(self) -> Last:
        """Return the number of the last record, the time of the log, and its size."""
        info = await self._info_of_leader()
        state, most = info["state"], info["config"]["max_bytes"]
        return Last(
            state["last_seq"],
            milliseconds(info["ts"]),
            state["first_seq"],
            milliseconds(state["first_ts"]) if state["messages"] else 0,
            state["bytes"],
            most if most > 0 else None,
        )

    async def account(self) -> Account:
        """Return the storage of the account."""

        async def look() -> Account:
            info = answer_of(await self._client.request(_ACCOUNT, b"", timeout=_TRY_S))
            # With tiers, an account has a limit for each number of replicas, of which each server
            # may store as much.
            tier = info.get("tiers", {}).get(f"R{self.replicas}")
            most = (tier or info)["limits"]["max_storage"] * (self.replicas if tier else 1)
            return Account((tier or info)["storage"], most if most > 0 else None, self.replicas)

        return await self._try(look, _ASKING_MS, "JetStream does not report its account")

    async def first(self) -> int:
        """Return the number of the first record that the log still has."""
        return int((await self._info_of_leader())["state"]["first_seq"])

    async def _info_of_leader(self) -> dict[str, Any]:
        async def look() -> dict[str, Any]:
            info = answer_of(await self._client.request(self._info, b"", timeout=_TRY_S))
            return info if leads(info.get("cluster")) else await self._later_info()

        info = await self._try(look, _ASKING_MS, "the cluster's log did not answer")
        if self.created and not self._is_of_this_log(info):
            raise Replaced
        return info

    def _is_of_this_log(self, info: dict[str, Any]) -> bool:
        if self.identity != self.created:
            return bool(info["config"]["subjects"] == [self._append])
        return str(api.StreamInfo.from_response(dict(info)).created) == self.created

    async def _later_info(self) -> dict[str, Any]:
        """Return the answer of the leader, after that of a server that failed or was cut off."""
        async with inbox_of(self._client) as (inbox, replies):
            await self._client.publish(self._info, b"", reply=inbox)
            while True:
                try:
                    info = answer_of(await replies.next_msg(timeout=_LATER_S))
                except nats.errors.TimeoutError:
                    reason = "the server that answered may not be the leader any more"
                    raise _NotLeadingError(reason) from None
                if leads(info.get("cluster")):
                    return info

    async def read(self, first: int) -> list[Logged]:
        """Return some records from a number on; none if there are none."""

        async def get() -> list[Logged]:
            return await self._get(first)

        records = await self._try(get, _ASKING_MS, "the cluster's log cannot be read")
        if not records or records[0].sequence == first:
            return records
        if await self.first() > first:
            raise Purged
        return []  # the first one was lost on the network

    async def _get(self, first: int) -> list[Logged]:
        async with inbox_of(self._client, _BATCH + 1) as (inbox, replies):
            wanted = {"seq": first, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
            await self._client.publish(self._direct, orjson.dumps(wanted), reply=inbox)
            records: list[Logged] = []
            while True:
                message = await replies.next_msg(timeout=_TRY_S)
                status = (message.headers or {}).get(api.Header.STATUS.value)
                if status in {"204", "404"}:  # no more, or none
                    return records
                if status is not None:
                    raise nats.errors.Error(f"status {status}")
                records.append(logged_of(message))

    async def follow(self, on_logged: Callable[[Logged], None]) -> int:
        """Call a function with each new record; return the number of the last older record."""

        async def hear(message: Msg) -> None:
            if message.subject == self._append:
                on_logged(delivered_of(message))

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
            made = answer_of(await self._client.request(subject, wanted, timeout=_TRY_S))
            return int(made["delivered"]["stream_seq"])

        return await self._try(make, _ASKING_MS, "the cluster's log does not deliver new records")

    async def _try(
        self,
        step: Callable[[], Awaitable[R]],
        most_ms: int,
        failed: str,
        kind: type[Unavailable] = Unavailable,
    ) -> R:
        """Try a step until it succeeds, for at most so many milliseconds."""
        begun_ms = self._clock.monotonic_ms()
        for attempt in itertools.count():
            try:
                return await step()
            except _STEP_ERRORS as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # nats-py may swallow a cancellation
                    raise asyncio.CancelledError from error
                if isinstance(error, _UNANSWERED):
                    await self._move(begun_ms)
                if self._clock.monotonic_ms() >= begun_ms + most_ms or self._client.is_closed:
                    raise kind(f"{failed}: {error!r}") from error
                if attempt == 1:
                    logger.warning("%s yet: %r", failed, error)
            await sleep(self._clock, _PAUSE_S)
        raise AssertionError  # the count has no end

    async def _move(self, begun_ms: int) -> None:
        """Connect to another server if this one has reached no leader of the log for long."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - max(begun_ms, self._moved_ms or begun_ms) >= _MOVING_MS:
            self._moved_ms = now_ms
            logger.warning(
                "this server reaches no leader of the log; the gateway connects to another one"
            )
            await self._client.force_reconnect()
