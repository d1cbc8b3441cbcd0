"""Snapshots of the state in an object store, from which new gateways start; trims the log."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import api
from nats.js.object_store import ObjectStore

from mq9.clock import Clock, sleep
from mq9.cluster import copy_on_disk
from mq9.cluster.jetstream import NAME
from mq9.cluster.log import Last
from mq9.cluster.replica import Snapshot
from mq9.errors import Unavailable
from mq9.server.limits import SnapshotLimits

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

STORE = f"{NAME}_SNAPSHOTS"
_KEPT = 2  # so that a gateway can still read the older one
_TIMEOUT_S = 10.0
_TRY_S = 2.0
_TRIES = 8
_PAUSE_S = 0.25
_FETCHING_S = 600.0


@contextmanager
def _unavailable(failed: str) -> Iterator[None]:
    """Raise Unavailable with this text for errors of NATS."""
    try:
        yield
    except (nats.errors.Error, TimeoutError) as error:
        raise Unavailable(f"{failed}: {error!r}") from error


class Snapshots:
    """The snapshots of one log."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._clock = clock
        self.bucket = STORE
        self._jetstream = client.jetstream(timeout=_TIMEOUT_S)
        self._store: ObjectStore | None = None
        self.newest = Snapshot(0, 0)  # at the last look

    async def open(self, replicas: int | None = None) -> bool:
        """Open the store; return whether it exists. With ``replicas`` it is created if missing."""

        async def look() -> ObjectStore | None:
            try:
                return await self._jetstream.object_store(self.bucket)
            except nats.js.errors.NotFoundError:
                if replicas is None:
                    return None
                config = api.ObjectStoreConfig(
                    description="Snapshots of the state of mq9", replicas=replicas
                )
                return await self._jetstream.create_object_store(self.bucket, config)

        done = "read" if replicas is None else "made"
        self._store = await self._try(look, f"the store of snapshots cannot be {done}")
        return self._store is not None

    async def _try(self, step: Callable[[], Awaitable[R]], failed: str) -> R:
        """Try a step several times: a new store does not answer for a moment."""
        met: Exception | None = None
        for _ in range(_TRIES):
            try:
                async with asyncio.timeout(_TRY_S):
                    return await step()
            except (nats.errors.Error, TimeoutError) as error:
                met = error
            await sleep(self._clock, _PAUSE_S)
        raise Unavailable(f"{failed}: {met!r}") from met

    @property
    def store(self) -> ObjectStore:
        """The store."""
        if self._store is None:
            raise Unavailable("the store of snapshots was not opened")
        return self._store

    async def all(self) -> list[Snapshot]:
        """Return the snapshots, newest first."""

        async def look() -> list[api.ObjectInfo]:
            try:
                return await self.store.list()
            except nats.js.errors.NotFoundError:
                return []  # the store is empty

        found = await self._try(look, "the store of snapshots cannot be read")
        taken = [Snapshot(int(one.name), one.size or 0) for one in found if not one.deleted]
        return sorted(taken, reverse=True)

    async def is_due(self, sequence: int, log: Last, limits: SnapshotLimits) -> bool:
        """Return whether much was appended since the newest snapshot of any gateway, or long ago.

        Args:
            sequence: The last record with commands that this gateway has applied.
            log: The end of the log, and its size.
            limits: The sizes of the log from which a snapshot is due.
        """
        taken = await self.all()
        newest = self.newest = taken[0] if taken else Snapshot(0, 0)
        behind = sequence - newest.sequence
        if log.first > newest.sequence + 1:
            logger.warning("the log was purged up to %d, and no snapshot has it", log.first - 1)
            return True
        if behind <= 0:
            return False
        size = log.bytes * behind // max(log.records, 1)
        return (
            behind >= limits.snapshot_records
            or size >= max(limits.snapshot_bytes, newest.bytes)
            or log.now_ms - log.first_ms >= limits.snapshot_age * 1000
        )

    async def fetch(self, snapshot: Snapshot, path: Path) -> None:
        """Write a snapshot into a new file, which appears when it is complete."""
        part = copy_on_disk.beside(path, ".part")
        part.unlink(missing_ok=True)  # of a process that was killed
        try:
            # Only the owner may read the mail.
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            failed = f"snapshot {snapshot.name} cannot be read"
            with _unavailable(failed), os.fdopen(handle, "wb") as file:
                async with asyncio.timeout(_FETCHING_S):
                    await self.store.get(snapshot.name, writeinto=file)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    async def add(self, path: Path, snapshot: Snapshot) -> None:
        """Store a snapshot."""
        with _unavailable("the snapshot could not be stored"), path.open("rb") as file:
            await self.store.put(snapshot.name, file)
        self.newest = snapshot
        logger.info("snapshot", extra=snapshot._asdict())

    async def forget_older(self) -> None:
        """Remove all snapshots but the newest two, and the part of the log that both have."""
        taken = await self.all()
        with _unavailable("older snapshots could not be removed"):
            for older in taken[_KEPT:]:
                await self.store.delete(older.name)
        # A gateway that starts from the older one needs the later records.
        if len(taken) >= _KEPT:
            await self.forget_log(taken[_KEPT - 1].sequence)

    async def forget_log(self, sequence: int) -> None:
        """Remove the log up to a record that a snapshot has."""
        with _unavailable("the log could not be shortened"):
            await self._jetstream.purge_stream(NAME, seq=sequence + 1)
