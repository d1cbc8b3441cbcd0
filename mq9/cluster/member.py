"""A gateway put together: connection, log, copy of the state, broker, queue group."""

from __future__ import annotations

import asyncio
import logging
import platform
import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from mq9.address import shown
from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.observer import Observer
from mq9.clock import Clock, SteadyClock, sleep
from mq9.cluster import copy_on_disk, joining
from mq9.cluster.backend import ClusterBackend
from mq9.cluster.connection import connect
from mq9.cluster.gateway import QUEUE, SNAPSHOT_SUBJECT, STATUS_SUBJECT, Gateway
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import REPLICAS, LogClock
from mq9.cluster.replica import Applied, Replica, Snapshot
from mq9.cluster.reply_subjects import GATEWAY_INBOX, INBOXES, ReplySubjects
from mq9.cluster.snapshots import Snapshots
from mq9.dialects import Dialects
from mq9.discovery.embeddings import Embeddings
from mq9.discovery.index import AGENT_INDEX
from mq9.engine.commands import Limits
from mq9.errors import InvalidRequest, Mq9Error
from mq9.version import VERSION

logger = logging.getLogger("mq9.broker")

_HEADERS_BYTES = 128 * 1024  # that a message may have beside its payload, and a reply beside it
_LOOK_S = 60.0  # about how often it is looked whether a snapshot is due


@dataclass(slots=True)
class Member:
    """A gateway that has joined a cluster.

    Attributes:
        name: What it is called.
        broker: What it answers with.
        backend: Its connection to the log.
        gateway: Its place in the queue group.
        client: Its connection.
        inboxes: Tells where replies may be published.
        snapshots: Those of the cluster.
        copy: Where a copy of the state may lie for a while.
        taking: Held while a snapshot is taken.
        verified: The number of the last record at which the state was digested, and the digest.
    """

    name: str
    broker: EmbeddedBroker
    backend: ClusterBackend
    gateway: Gateway
    client: Client
    inboxes: ReplySubjects
    snapshots: Snapshots
    copy: Path
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    verified: tuple[int, str] | None = None
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
        """Store a copy of the state in the cluster.

        Raises:
            Mq9Error: It could not be made, or not be stored.
            OSError: Nor written to the disk here.
        """
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


@asynccontextmanager
async def joined(
    url: str,
    data: Path,
    clock: Clock,
    *,
    limits: Limits | None = None,
    observer: Observer | None = None,
    embeddings: Embeddings | None = None,
    dialects: Dialects = Dialects.ALL,
    reply_prefixes: Sequence[str] = INBOXES,
    randomness: Callable[[int], bytes] = secrets.token_bytes,
) -> AsyncIterator[Member]:
    """Be a gateway of a cluster while inside, which its ``gateway`` has to be started for.

    Args:
        url: One or several servers of the cluster, as a client would name them.
        data: The file of the copy of the state; made, or made anew, as is needed.
        clock: Tells the time.
        limits: What the broker takes from now on; None for what it took before.
        observer: Is told what happens.
        embeddings: Let agents be found by meaning; without any they are found by their words.
        dialects: The generations of the protocol that it speaks.
        reply_prefixes: What the subjects of clients' replies begin with.
        randomness: Gives that many unpredictable bytes.

    Raises:
        InvalidRequest: A prefix or the URL cannot be used, or the cluster is not one of mq9.
        Unreachable: No server can be reached, or no snapshot has what the log no longer has.
        Unavailable: The log cannot be reached, or not be applied.
        UnusableFile: The file cannot be used.
    """
    inboxes = ReplySubjects(reply_prefixes)
    name = f"{_plain(platform.node())}-{randomness(6).hex()}"
    async with AsyncExitStack() as stack:
        stack.enter_context(copy_on_disk.held(data))
        client = await connect(url, f"mq9 gateway {name}", GATEWAY_INBOX)
        stack.push_async_callback(client.close)
        log = JetStreamLog(client, clock)
        replicas = await log.found(REPLICAS)
        snapshots = Snapshots(client, clock)
        await snapshots.found(replicas)
        taken = await snapshots.all()
        if taken and taken[0].sequence > (await log.last()).sequence:
            raise InvalidRequest(
                f"cluster: the object store {snapshots.bucket} has a snapshot of another log; "
                "delete it, or import again where an import was broken off"
            )
        copy_on_disk.remove_unless_of(data, f"{copy_on_disk.current_boot()} {log.created}")
        log_clock = LogClock(clock, (await log.last()).now_ms)
        brokers: list[EmbeddedBroker] = []

        def make(replica: Replica) -> ClusterBackend:
            made: list[ClusterBackend] = []

            def make_backend(
                steady: SteadyClock, on_news: Callable[[str | None], None]
            ) -> ClusterBackend:
                made.append(
                    ClusterBackend(
                        log,
                        replica,
                        log_clock,
                        steady,
                        on_news,
                        name=name,
                        max_record=client.max_payload,
                    )
                )
                return made[0]

            brokers.append(
                EmbeddedBroker(
                    make_backend,
                    log_clock,
                    observer=observer,
                    embeddings=embeddings,
                    dialects=dialects,
                )
            )
            return made[0]

        backend = await joining.join(
            lambda: joining.open_copy(
                data, log, snapshots, lambda path: Replica(path, AGENT_INDEX)
            ),
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


def largest_payload(max_payload: int) -> int:
    """Return how many bytes a message may have that fits into a reply of the cluster, as base64.

    Args:
        max_payload: What the cluster takes in one message of NATS.
    """
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
    while True:
        # At random, so that two gateways seldom take the same one.
        await sleep(clock, _LOOK_S * random.uniform(0.5, 1.5))  # noqa: S311  # no secret
        try:
            if await member.snapshots.is_due(member.backend.sequence):
                await member.take_snapshot()
        except (Mq9Error, OSError) as error:
            logger.warning("no snapshot: %s", error)


def _plain(text: str) -> str:
    """Return a text as part of a subject."""
    return "".join(one if one.isalnum() or one in "-_" else "-" for one in text)[:40] or "gateway"
