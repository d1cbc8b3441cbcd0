"""Requests of operators to a cluster: the state of its gateways, snapshots, import and export."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.js import api

from mq9.clock import Clock
from mq9.cluster.connection import connect
from mq9.cluster.gateway import SNAPSHOT_SUBJECT, STATUS_SUBJECT
from mq9.cluster.identity import Identities, found_log, new_identity
from mq9.cluster.jetstream import NAME, JetStreamLog, inbox_of
from mq9.cluster.member import largest_payload, max_payload_for
from mq9.cluster.records import LogRecord, decode, encode, first_index
from mq9.cluster.replica import Snapshot
from mq9.cluster.reply_subjects import OPERATOR_INBOX
from mq9.cluster.snapshots import Snapshots
from mq9.engine.codec import UnreadableEntry
from mq9.errors import Forbidden, InvalidRequest, Mq9Error, Unavailable, UnusableFile
from mq9.storage import store

_SNAPSHOT_S = 600.0
_ASKING_S = 5.0
_FIRST = 1  # record of a log
_LONGER = (
    "SELECT count(*), max(bytes) FROM (SELECT length(payload) AS bytes FROM messages"
    " UNION ALL SELECT length(payload) FROM delayed) WHERE bytes > ?"
)


class Operator:
    """The requests of a person to a cluster."""

    def __init__(self, client: Client, clock: Clock, name: str) -> None:
        self._client = client
        self._clock = clock
        self._name = name
        self._log = JetStreamLog(client, clock)
        self._snapshots = Snapshots(client, clock)
        self._identities = Identities(client)

    async def status(self, seconds: float) -> list[dict[str, Any]]:
        """Return the status of each gateway, by name."""
        found: list[dict[str, Any]] = []
        async with inbox_of(self._client) as (inbox, answers):
            await self._client.publish(STATUS_SUBJECT, reply=inbox)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while True:
                        answer = await answers.next_msg(timeout=None)
                        if answer.headers and "Status" in answer.headers:
                            break  # nobody is subscribed
                        found.append(orjson.loads(answer.data))
        return sorted(found, key=itemgetter("name"))

    async def last(self) -> int:
        """Return the number of the last record of the log."""
        if await self._log_state() is None or not await self._log.open():
            raise Unavailable(
                "cluster: there is no log yet; `mq9 serve --cluster` creates one, "
                "or `mq9 cluster import` with the contents of a file"
            )
        return (await self._log.last()).sequence

    async def verify(self, seconds: float) -> list[dict[str, Any]]:
        """Return the digests of all gateways after the same record, by name.

        A gateway that did not answer has no digest.
        """
        await self.last()
        known = {one["name"] for one in await self.status(min(1.0, seconds))}
        if not known:
            return []
        found = {name: {"name": name, "sequence": None, "digest": None} for name in known}
        async with inbox_of(self._client) as (inbox, answers):
            record = encode(LogRecord(self._name, 1, 0, verify=inbox))
            await self._log.append(record, f"{self._name}.1")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while known:
                        answer = orjson.loads((await answers.next_msg(timeout=None)).data)
                        found[answer["name"]] = answer
                        known.discard(answer["name"])
        return sorted(found.values(), key=itemgetter("name"))

    async def snapshot(self) -> Snapshot:
        """Let a gateway store a snapshot."""
        await self.last()
        try:
            reply = await self._client.request(SNAPSHOT_SUBJECT, b"", timeout=_SNAPSHOT_S)
        except nats.errors.NoRespondersError as error:
            raise Unavailable("snapshot: there is no gateway; start one") from error
        except nats.errors.Error as error:
            raise Unavailable(f"snapshot: no gateway confirmed one: {error!r}") from error
        answer = orjson.loads(reply.data)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return Snapshot(answer["sequence"], answer["bytes"])

    async def import_file(self, file: Path) -> Snapshot:
        """Begin a cluster with the contents of a file. An interrupted import can be repeated."""
        if gateways := await self.status(1.0):
            raise InvalidRequest(f"import: {len(gateways)} gateways are running; stop them first")
        has_begun = await self._has_begun_to_import()
        taken = await self._snapshots.all() if await self._snapshots.open() else []
        if any(other.sequence != _FIRST for other in taken):
            raise InvalidRequest(
                f"import: the object store {self._snapshots.bucket} has snapshots of another log; "
                "run `mq9 cluster reset --yes` first"
            )
        with TemporaryDirectory(prefix="mq9-") as directory:
            copy = Path(directory) / "import.db"
            await asyncio.to_thread(_copy, file, copy, largest_payload(self._client.max_payload))
            snapshot = Snapshot(_FIRST, copy.stat().st_size)
            await found_log(self._log, self._identities, [], self._clock)
            await self._snapshots.open(self._log.replicas)
            await self._snapshots.add(copy, snapshot)
        if not has_begun:
            record = encode(LogRecord(self._name, 1, 0))
            if await self._log.append(record, f"{self._name}.import") != _FIRST:
                raise InvalidRequest("import: a gateway has begun the log in the meantime")
        # The log begins after the snapshot, so every gateway starts from the snapshot.
        await self._snapshots.forget_log(_FIRST)
        return snapshot

    async def _has_begun_to_import(self) -> bool:
        """Return whether the log has only the record of an interrupted import."""
        state = await self._log_state()
        if state is None or not state.last_seq:
            return False
        if state.first_seq == state.last_seq == _FIRST:
            [begun, *_] = await self._log.read(_FIRST)
            with contextlib.suppress(UnreadableEntry):  # another entry is not of an import
                record = decode(begun.data)
                if not record.calls and record.verify is None:
                    return True
        raise InvalidRequest(
            "import: this cluster has a log already, and only an empty cluster takes a file"
        )

    async def export_file(self, file: Path) -> Snapshot:
        """Write the newest snapshot into a new file."""
        if await asyncio.to_thread(file.exists):
            raise InvalidRequest(f"export: {file} exists")
        taken = await self._snapshots.all() if await self._snapshots.open() else []
        if not taken:
            await self.last()  # without a log, that is the reason
            raise InvalidRequest("export: there is no snapshot; `mq9 cluster snapshot` stores one")
        await self._snapshots.fetch(taken[0], file)
        return taken[0]

    async def reset(self) -> None:
        """Remove the log and its snapshots, and let gateways create an empty log."""
        if gateways := await self.status(1.0):
            raise InvalidRequest(f"reset: {len(gateways)} gateways are running; stop them first")
        former = await self._identities.get()
        # First, so that a reset that breaks off can be repeated.
        await self._identities.put(new_identity(), former, is_begun=True)
        jetstream = self._client.jetstream(timeout=_ASKING_S)
        for name in (NAME, f"OBJ_{self._snapshots.bucket}"):
            try:
                await jetstream.delete_stream(name)
            except nats.js.errors.NotFoundError:
                pass
            except nats.errors.Error as error:
                raise Unavailable(f"reset: {name} cannot be removed: {error!r}") from error

    async def _log_state(self) -> api.StreamState | None:
        """Return the state of the log; None without one."""
        try:
            return (await self._client.jetstream(timeout=_ASKING_S).stream_info(NAME)).state
        except nats.js.errors.NotFoundError:
            return None
        except nats.js.errors.ServiceUnavailableError as error:
            raise Unavailable(
                "cluster: JetStream does not answer: it is off, or too few of its servers are up"
            ) from error
        except nats.errors.Error as error:
            raise Unavailable(f"cluster: JetStream does not report the log: {error!r}") from error


@asynccontextmanager
async def operating(url: str, clock: Clock, name: str, seconds: float) -> AsyncIterator[Operator]:
    """Be connected to a cluster while inside."""
    refusals: list[str] = []
    client = await connect(url, f"mq9 {name}", OPERATOR_INBOX, seconds, refusals)
    try:
        yield Operator(client, clock, name)
    except Mq9Error as error:
        if refusals:
            raise Forbidden(
                f"cluster: this NATS user may not {refusals[0]}: it needs the permissions of an "
                "operator"
            ) from error
        raise
    finally:
        await client.close()


def _check_unused(file: Path) -> None:
    """Refuse a file that another program has open: it would lack what that writes later."""
    with (
        contextlib.suppress(sqlite3.DatabaseError),
        closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=0)
        ) as connection,
    ):
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise InvalidRequest(
                    f"import: another program uses {file}; stop it first"
                ) from None


def _copy(file: Path, to: Path, most: int) -> None:
    """Copy a file, as the state after the first record of a log."""
    _check_unused(file)
    longer, longest = store.look_into(file, lambda one: one.execute(_LONGER, [most]).fetchone())
    if longer:
        raise InvalidRequest(
            f"import: {file} has {longer} messages with more than {most} bytes, the longest with "
            f"{longest}, which the cluster cannot return; set max_payload of the NATS servers to "
            f"{max_payload_for(longest)} or more"
        )
    try:
        with closing(store.open_reader(file)) as source, closing(sqlite3.connect(to)) as target:
            source.backup(target)
            target.execute("UPDATE state SET applied=?", [first_index(_FIRST)])
            target.commit()
    except sqlite3.Error as error:
        raise UnusableFile(f"{file} cannot be copied into {to.parent}: {error}") from error
