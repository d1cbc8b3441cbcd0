"""A gateway with all its parts: connection, log, copy of the state, broker, queue group."""

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
from mq9.cluster.gateway import QUEUE, SNAPSHOT_SUBJECT, STATUS_SUBJECT, Gateway
from mq9.cluster.identity import Identities, found_log
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import LogClock
from mq9.cluster.replica import Applied, Replica, Snapshot
from mq9.cluster.reply_subjects import GATEWAY_INBOX, INBOXES, ReplySubjects
from mq9.cluster.snapshots import Snapshots
from mq9.dialects import Dialects
from mq9.discovery.embeddings import Embeddings
from mq9.discovery.index import AGENT_INDEX
from mq9.engine.commands import Limits
from mq9.errors import InvalidRequest, Mq9Error, Unavailable, Unreachable
from mq9.version import VERSION

logger = logging.getLogger("mq9.broker")

_HEADERS_BYTES = 128 * 1024  # for the headers of a message, and for the rest of a reply
_TRIES = 5
_QUORUM_S = 1.0  # before the next try
_LOOK_S = 60.0  # about the interval of the looks whether a snapshot is due


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
    is_leaving: bool = False
    _publishing: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Answer operators."""
        await self.client.subscribe(STATUS_SUBJECT, cb=self._answer_status)
        await self.client.subscribe(SNAPSHOT_SUBJECT, queue=QUEUE, cb=self._snapshot)

    def status(self) -> dict[str, Any]:
        """Return the status: ``applied`` and ``known`` are numbers of records of the log."""
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

    def report_digest(self, applied: Applied, digest: str) -> None:
        """Send the digest of the state after a record to the inbox that the record names."""
        if applied.record.verify is None:
            return
        if not self.inboxes.allows(applied.record.verify):
            logger.warning("no digest for %s: it is no inbox", shown(applied.record.verify))
            return
        self.verified = (applied.sequence, digest)
        report = {"name": self.name, "sequence": applied.sequence, "digest": digest}
        publishing = asyncio.create_task(
            self.client.publish(applied.record.verify, orjson.dumps(report))
        )
        self._publishing.add(publishing)
        publishing.add_done_callback(self._publishing.discard)

    async def _answer_status(self, message: Msg) -> None:
        if self.inboxes.allows(message.reply):
            await self.client.publish(message.reply, orjson.dumps(self.status()))

    async def _snapshot(self, message: Msg) -> None:
        if not self.inboxes.allows(message.reply):
            return
        try:
            answer: dict[str, Any] = (await self.take_snapshot())._asdict()
        except (Mq9Error, OSError) as error:
            answer = {"error": str(error)}
        await self.client.publish(message.reply, orjson.dumps(answer))


class BrokerOptions(TypedDict, total=False):
    """Options of every broker."""

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
    """Be a member of a cluster while inside; start its ``gateway`` to serve clients."""
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
        backend.on_verified = member.report_digest
        keeping = None
        try:
            await member.start()
            keeping = asyncio.create_task(_keep_snapshots(member, clock))
            yield member
        finally:
            member.is_leaving = True
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
            logger.warning(
                "the gateway waits for a majority of the NATS servers, with JetStream: %s", error
            )
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
    """Return a backend whose copy has all records of the log.

    If the log is trimmed in the meantime, it starts again with a newer snapshot.
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
    raise AssertionError  # the count has no end


async def _open_copy(
    path: Path, log: JetStreamLog, snapshots: Snapshots, open_file: Callable[[Path], Replica]
) -> Replica:
    """Open the copy; fetch the newest snapshot if the log lacks records that the copy needs."""
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
    """Return the most bytes of a message that fits into a reply of the cluster, as base64."""
    return (max_payload - _HEADERS_BYTES) * 3 // 4


def max_payload_for(payload: int) -> int:
    """Return the ``max_payload`` that a cluster needs to return a message of so many bytes."""
    return -(-payload * 4 // 3) + _HEADERS_BYTES


def _that_fit(limits: Limits, max_payload: int) -> Limits:
    """Return limits under which every message fits into a reply of the cluster."""
    most = largest_payload(max_payload)
    if limits.max_payload <= most:
        return limits
    logger.info(
        "messages are limited to the size that the cluster can return", extra={"max_payload": most}
    )
    return replace(limits, max_payload=most)


async def _keep_snapshots(member: Member, clock: Clock) -> None:
    """Store a snapshot whenever much was appended since the last one of any gateway."""
    pause_s = 0.0
    while not member.is_leaving:  # nats-py may swallow the cancellation of a request
        await sleep(clock, pause_s)
        # At random, so that two gateways seldom store the same one.
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
