"""The start of a gateway: a copy of the state that has all records of the log."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

from mq9.cluster import copy_on_disk
from mq9.cluster.backend import ClusterBackend
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.replica import Replica
from mq9.cluster.snapshots import Snapshots
from mq9.engine.commands import Limits
from mq9.errors import Unavailable, Unreachable, UnusableFile
from mq9.storage import store

logger = logging.getLogger("mq9.broker")

_TRIES = 5


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
    """Open the copy; fetch a snapshot if the copy is not usable.

    The log may lack records that the copy needs, or a newer version has changed its schema.
    """
    first = await log.first()
    newer = await asyncio.to_thread(store.newer_schema, path)
    if newer is None:
        replica = await asyncio.to_thread(open_file, path)
        if replica.sequence + 1 >= first:
            return replica
        logger.info("the copy lacks records before %d, which the log no longer has", first)
        replica.close()
    else:
        logger.warning("the copy %s is not used: it %s", path, store.newer(newer))
    if await _begin_with_snapshot(path, first, snapshots):
        return await asyncio.to_thread(open_file, path)
    if first > 1:
        raise Unreachable(
            f"the log begins at {first}, and no snapshot reaches up to there: it was purged. If a "
            "gateway still runs, `mq9 cluster snapshot` stores its state; then start this one again"
        )
    copy_on_disk.remove(path)  # the log has everything
    return await asyncio.to_thread(open_file, path)


async def _begin_with_snapshot(path: Path, first: int, snapshots: Snapshots) -> bool:
    """Put the newest usable snapshot in place of the copy; return whether there is one."""
    fetched = copy_on_disk.beside(path, ".fetched")
    newer = None
    for snapshot in await snapshots.all():
        if snapshot.sequence + 1 < first:
            break
        await snapshots.fetch(snapshot, fetched)
        found = await asyncio.to_thread(store.newer_schema, fetched)
        if found is None:
            copy_on_disk.remove(path)
            fetched.replace(path)
            logger.info("begun from a snapshot", extra={"sequence": snapshot.sequence})
            return True
        fetched.unlink()
        newer = newer or found
        logger.warning("the snapshot %d is not used: it %s", snapshot.sequence, store.newer(found))
    if newer is not None and first > 1:
        raise UnusableFile(
            f"no snapshot of the cluster is usable: the newest one {store.newer(newer)}. Or "
            "restore a backup from before the upgrade: `mq9 cluster reset --yes`, `mq9 cluster "
            "import FILE`"
        )
    return False
