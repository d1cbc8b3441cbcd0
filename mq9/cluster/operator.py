"""What operators ask of a cluster: how its gateways do, and whether all have the same state."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from nats.aio.client import Client

from mq9.clock import Clock
from mq9.cluster.connection import connect
from mq9.cluster.gateway import SNAPSHOT_SUBJECT, STATUS_SUBJECT
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import REPLICAS
from mq9.cluster.records import LogRecord, encode, first_index
from mq9.cluster.replica import Snapshot
from mq9.cluster.snapshots import Snapshots
from mq9.errors import InvalidRequest, Unavailable
from mq9.storage import store

_SNAPSHOT_S = 600.0


class Operator:
    """Asks a cluster on behalf of a person.

    Args:
        client: A connection to its servers.
        clock: Measures how long is waited.
        name: Of this one, in the log.
    """

    def __init__(self, client: Client, clock: Clock, name: str) -> None:
        self._client = client
        self._name = name
        self._log = JetStreamLog(client, clock)
        self._snapshots = Snapshots(client)

    async def status(self, seconds: float) -> list[dict[str, Any]]:
        """Return what each gateway says of itself, by name.

        Args:
            seconds: How long answers are waited for.
        """
        return await self._gather(STATUS_SUBJECT, b"", seconds)

    async def last(self) -> int:
        """Return the number of the last record of the log.

        Raises:
            Unavailable: There is no log, or it does not answer.
        """
        return (await self._log.last()).sequence

    async def verify(self, seconds: float) -> list[dict[str, Any]]:
        """Have every gateway digest its state at the same place of the log.

        Args:
            seconds: How long digests are waited for.

        Returns:
            Of each gateway ``name``, ``sequence`` and ``digest``, by name.

        Raises:
            Unavailable: The log cannot be appended to.
        """
        known = len(await self.status(min(1.0, seconds)))
        inbox = self._client.new_inbox()
        answers = await self._client.subscribe(inbox)
        try:
            record = encode(LogRecord(self._name, 1, 0, verify=inbox))
            await self._log.append(record, f"{self._name}.1")
            found: list[dict[str, Any]] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while len(found) < known:
                        found.append(orjson.loads((await answers.next_msg(timeout=None)).data))
            return sorted(found, key=_name)
        finally:
            await answers.unsubscribe()

    async def snapshot(self) -> Snapshot:
        """Have one of the gateways store a snapshot.

        Raises:
            Unavailable: None does.
        """
        reply = await self._client.request(SNAPSHOT_SUBJECT, b"", timeout=_SNAPSHOT_S)
        told = orjson.loads(reply.data)
        if "error" in told:
            raise Unavailable(told["error"])
        return Snapshot(told["sequence"], told["bytes"])

    async def import_file(self, file: Path) -> Snapshot:
        """Begin a cluster with what a file holds.

        Raises:
            InvalidRequest: The cluster has a log already, or gateways.
            UnusableFile: The file cannot be used.
            Unavailable: The cluster cannot store it.
        """
        if gateways := await self.status(1.0):
            raise InvalidRequest(f"import: {len(gateways)} gateways are running; stop them first")
        replicas = await self._log.found(REPLICAS)
        await self._snapshots.found(replicas)
        if await self.last():
            raise InvalidRequest("import: this cluster has a log already")
        # The log begins behind the snapshot, so that every gateway has to start from that.
        sequence = await self._log.append(
            encode(LogRecord(self._name, 1, 0)), f"{self._name}.import"
        )
        with TemporaryDirectory(prefix="mq9-") as directory:
            copy = Path(directory) / "import.db"
            await asyncio.to_thread(_copy, file, copy, first_index(sequence))
            snapshot = Snapshot(sequence, copy.stat().st_size)
            await self._snapshots.put(copy, snapshot, behind=sequence)
        return snapshot

    async def export_file(self, file: Path) -> Snapshot:
        """Write what the newest snapshot holds into a new file.

        Raises:
            InvalidRequest: There is such a file, or no snapshot.
            Unavailable: The snapshot cannot be read.
        """
        if await asyncio.to_thread(file.exists):
            raise InvalidRequest(f"export: {file} exists")
        await self._snapshots.found(1)
        taken = await self._snapshots.all()
        if not taken:
            raise InvalidRequest("export: there is no snapshot")
        await self._snapshots.fetch(taken[0], file)
        return taken[0]

    async def _gather(self, subject: str, payload: bytes, seconds: float) -> list[dict[str, Any]]:
        """Return all answers to a request that come within so many seconds, by name."""
        inbox = self._client.new_inbox()
        answers = await self._client.subscribe(inbox)
        found: list[dict[str, Any]] = []
        try:
            await self._client.publish(subject, payload, reply=inbox)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while True:
                        answer = await answers.next_msg(timeout=None)
                        if answer.headers and "Status" in answer.headers:
                            break  # nobody is subscribed to it
                        found.append(orjson.loads(answer.data))
        finally:
            await answers.unsubscribe()
        return sorted(found, key=_name)


@asynccontextmanager
async def operating(url: str, clock: Clock, name: str) -> AsyncIterator[Operator]:
    """Be connected to a cluster while inside.

    Raises:
        Unreachable: No server can be reached.
    """
    client = await connect(url, f"mq9 {name}")
    try:
        yield Operator(client, clock, name)
    finally:
        await client.close()


def _name(found: dict[str, Any]) -> str:
    return str(found["name"])


def _copy(file: Path, to: Path, applied: int) -> None:
    """Copy a file, as the state after an entry of a log."""
    store.look_into(file, lambda _: None)
    with closing(store.open_reader(file)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
        target.execute("UPDATE state SET applied=?", (applied,))
        target.commit()
