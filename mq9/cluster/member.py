"""A gateway put together: connection, log, copy of the state, broker, queue group."""

from __future__ import annotations

import asyncio
import itertools
import logging
import platform
import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from mq9.address import shown
from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.observer import Observer
from mq9.clock import Clock, SteadyClock, sleep
from mq9.cluster import copy_on_disk, permissions
from mq9.cluster.backend import ClusterBackend
from mq9.cluster.connection import connect
from mq9.cluster.gateway import (
    GATEWAY_INBOX,
    INBOXES,
    QUEUE,
    SNAPSHOT_SUBJECT,
    STATUS_SUBJECT,
    Gateway,
    ReplySubjects,
)
from mq9.cluster.identity import Identities, found_log
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import LogClock
from mq9.cluster.replica import Applied, Replica, Snapshot
from mq9.cluster.snapshots import Snapshots
from mq9.dialects import Dialects
from mq9.discovery.embeddings import Embeddings
from mq9.discovery.index import AGENT_INDEX
from mq9.engine.commands import Limits
from mq9.errors import InvalidRequest, Mq9Error, Unavailable, Unreachable
from mq9.version import VERSION

logger = logging.getLogger("mq9.broker")

_HEADERS_BYTES = 128 * 1024  # that a message may have beside its payload, and a reply beside it
_TRIES = 5
_QUORUM_S = 1.0  # before the next try
_LOOK_S = 60.0  # about how often it is looked whether a snapshot is due


@dataclass(slots=True)
class Member:
    """A gateway that has joined a cluster."""

    name: str
    broker: EmbeddedBroker
    backend: ClusterBackend
    gateway: Gateway
    client: Client
    inboxes: ReplySubjects
    snapshots: Snapshots
    copy: Path  # temporary, while a snapshot is taken
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while a snapshot is taken
    verified: tuple[int, str] | None = None  # record, digest
    failed_snapshots: int = 0
    _telling: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Answer operators."""
        await self.client.subscribe(STATUS_SUBJECT, cb=self._tell_status)
        await self.client.subscribe(SNAPSHOT_SUBJECT, queue=QUEUE, cb=self._snapshot)

    def status(self) -> dict[str, Any]:
        """Return how it does: ``applied`` and ``known`` are numbers of records of the log."""
        return {
            "name": self.name,
            "version": VERSION,
            "serving": self.gateway.is_serving,
            "applied": self.backend.sequence,
            "known": self.backend.known,
            "requests": self.gateway.requests,
        }

    async def take_snapshot(self) -> Snapshot:
        """Store a copy of the state in the cluster."""
        async with self.taking:
            copy_on_disk.remove(self.copy)  # of a process that was killed
            try:
                snapshot = await self.backend.copy_to(self.copy)
                await self.snapshots.add(self.copy, snapshot)
            finally:
                copy_on_disk.remove(self.copy)
            await self.snapshots.forget_older()
        return snapshot

    def tell_digest(self, applied: Applied, digest: str) -> None:
        """Send the digest of the state after a record to whoever asked for it by that."""
        if applied.record.verify is None:
            return
        if not self.inboxes.allows(applied.record.verify):
            logger.warning("no digest for %s: it is no inbox", shown(applied.record.verify))
            return
        self.verified = (applied.sequence, digest)
        said = {"name": self.name, "sequence": applied.sequence, "digest": digest}
        telling = asyncio.create_task(
            self.client.publish(applied.record.verify, orjson.dumps(said))
        )
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell_status(self, message: Msg) -> None:
        if self.inboxes.allows(message.reply):
            await self.client.publish(message.reply, orjson.dumps(self.status()))

    async def _snapshot(self, message: Msg) -> None:
        if not self.inboxes.allows(message.reply):
            return
        try:
            told: dict[str, Any] = (await self.take_snapshot())._asdict()
        except (Mq9Error, OSError) as error:
            told = {"error": str(error)}
        await self.client.publish(message.reply, orjson.dumps(told))


class BrokerOptions(TypedDict, total=False):
    """Options of every broker, wherever its mail is."""

    observer: Observer | None
    embeddings: Embeddings | None
    dialects: Dialects


@asynccontextmanager
async def joined(
    url: str,
    data: Path,
    clock: Clock,
    *,
    limits: Limits | None = None,
    reply_prefixes: Sequence[str] = INBOXES,
    **options: Unpack[BrokerOptions],
) -> AsyncIterator[Member]:
    """Be a gateway of a cluster while inside, which its ``gateway`` has to be started for."""
    inboxes = ReplySubjects(reply_prefixes)
    name = f"{_plain(platform.node())}-{secrets.token_hex(6)}"
    async with AsyncExitStack() as stack:
        stack.enter_context(copy_on_disk.held(data))
        refusals: list[str] = []
        client = await connect(url, f"mq9 gateway {name}", GATEWAY_INBOX, refusals=refusals)
        stack.push_async_callback(client.close)
        await permissions.check(client, reply_prefixes, refusals)
        log = JetStreamLog(client, clock)
        snapshots = Snapshots(client, clock)
        taken = await _open_log(log, snapshots, Identities(client), data, clock)
        if taken and taken[0].sequence > (await log.last()).sequence:
            raise InvalidRequest(
                f"cluster: the object store {snapshots.bucket} has a snapshot of another log; "
                "delete it, or import again where an import was broken off"
            )
        copy_on_disk.remove_unless_of(data, f"{copy_on_disk.current_boot()} {log.created}")
        log_clock = LogClock(clock, (await log.last()).now_ms)
        made: list[ClusterBackend] = []
        brokers: list[EmbeddedBroker] = []

        def make(replica: Replica) -> ClusterBackend:
            def make_backend(
                steady: SteadyClock, on_news: Callable[[str | None], None]
            ) -> ClusterBackend:
                most = client.max_payload
                made.append(
                    ClusterBackend(
                        log, replica, log_clock, steady, on_news, name=name, max_record=most
                    )
                )
                return made[-1]

            brokers.append(EmbeddedBroker(make_backend, log_clock, **options))
            return made[-1]

        backend = await join(
            data,
            log,
            snapshots,
            lambda path: Replica(path, AGENT_INDEX),
            make,
            limits and _that_fit(limits, client.max_payload),
        )
        broker = brokers[-1]
        gateway = Gateway(client, broker, clock, name, lambda: backend.failure is None, inboxes)
        copy = copy_on_disk.beside(data, ".snapshot")
        member = Member(name, broker, backend, gateway, client, inboxes, snapshots, copy)
        backend.on_verified = member.tell_digest
        keeping = None
        try:
            await member.start()
            keeping = asyncio.create_task(_keep_snapshots(member, clock))
            yield member
        finally:
            if keeping is not None:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
            await gateway.close()
            await broker.close()


async def _open_log(
    log: JetStreamLog, snapshots: Snapshots, identities: Identities, data: Path, clock: Clock
) -> list[Snapshot]:
    """Open the log and the store of snapshots, once a majority of the servers is available."""
    while True:
        try:
            taken = await snapshots.all() if await snapshots.open() else []
            traces = ["there are snapshots of it"] if taken else []
            if copy_on_disk.is_of_a_log(data):
                traces.append(f"{data} is a copy of it")
            await found_log(log, identities, traces, clock)
            await snapshots.open(log.replicas)
        except Unavailable as error:
            logger.warning("the gateway waits for a majority of the NATS servers: %s", error)
            await sleep(clock, _QUORUM_S)
        else:
            return taken


async def join(
    path: Path,
    log: JetStreamLog,
    snapshots: Snapshots,
    open_file: Callable[[Path], Replica],
    make: Callable[[Replica], ClusterBackend],
    limits: Limits | None,
) -> ClusterBackend:
    """Return a backend whose copy has what the log has.

    Where the log was purged while that began, it begins again, with a newer snapshot.
    """
    for attempt in itertools.count(1):
        backend = make(await _open_copy(path, log, snapshots, open_file))
        try:
            await backend.open(limits)
        except Unavailable:
            await backend.close()
            if not backend.is_behind or attempt == _TRIES:
                raise
        except BaseException:
            await backend.close()
            raise
        else:
            return backend
    raise AssertionError  # it counts for ever


async def _open_copy(
    path: Path, log: JetStreamLog, snapshots: Snapshots, open_file: Callable[[Path], Replica]
) -> Replica:
    """Open the copy, from the newest snapshot where the log no longer has what it lacks."""
    first = await log.first()
    replica = await asyncio.to_thread(open_file, path)
    if replica.sequence + 1 >= first:
        return replica
    replica.close()
    taken = await snapshots.all()
    if not taken or taken[0].sequence + 1 < first:
        raise Unreachable(
            f"the log begins at {first}, and no snapshot reaches up to there: it was purged. If a "
            "gateway still runs, `mq9 cluster snapshot` stores its state; then start this one again"
        )
    copy_on_disk.remove(path)
    await snapshots.fetch(taken[0], path)
    logger.info("begun from a snapshot", extra={"sequence": taken[0].sequence})
    return await asyncio.to_thread(open_file, path)


def largest_payload(max_payload: int) -> int:
    """Return how many bytes a message may have that fits into a reply of the cluster, as base64."""
    return (max_payload - _HEADERS_BYTES) * 3 // 4


def max_payload_for(payload: int) -> int:
    """Return what the cluster has to take, so that it can give back a message of so many bytes."""
    return -(-payload * 4 // 3) + _HEADERS_BYTES


def _that_fit(limits: Limits, max_payload: int) -> Limits:
    """Return limits under which every message fits into a reply of the cluster."""
    most = largest_payload(max_payload)
    if limits.max_payload <= most:
        return limits
    logger.info("messages are limited to what the cluster can return", extra={"max_payload": most})
    return replace(limits, max_payload=most)


async def _keep_snapshots(member: Member, clock: Clock) -> None:
    """Take a snapshot whenever much was appended since the last one, by whichever gateway."""
    pause_s = 0.0
    while True:
        await sleep(clock, pause_s)
        # At random, so that two gateways seldom take the same one.
        pause_s = _LOOK_S * random.uniform(0.5, 1.5)  # noqa: S311  # no secret
        try:
            if await member.snapshots.is_due(member.backend.sequence):
                await member.take_snapshot()
        except (Mq9Error, OSError) as error:
            member.failed_snapshots += 1
            logger.warning("no snapshot: %s", error)


def _plain(text: str) -> str:
    """Return a text as part of a subject."""
    return "".join(one if one.isalnum() or one in "-_" else "-" for one in text)[:40] or "gateway"
