"""How a gateway begins: with its copy of the state, or a snapshot, brought up to the log."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from mq9.cluster import copy_on_disk
from mq9.cluster.backend import ClusterBackend
from mq9.cluster.log import Log
from mq9.cluster.replica import Replica, Snapshot
from mq9.engine.commands import Limits
from mq9.errors import Unavailable, Unreachable

logger = logging.getLogger("mq9.broker")

_TRIES = 5


class Store(Protocol):
    """Has the snapshots of a log."""

    async def all(self) -> list[Snapshot]:
        """Return the snapshots, the newest first."""

    async def fetch(self, snapshot: Snapshot, path: Path) -> None:
        """Write a snapshot into a new file."""


async def open_copy(
    path: Path, log: Log, snapshots: Store, open_file: Callable[[Path], Replica]
) -> Replica:
    """Open the copy, from the newest snapshot where the log no longer has what it lacks.

    Args:
        path: The file; made, or made anew, as is needed.
        log: The log.
        snapshots: Those of the log.
        open_file: Opens a file, or makes it.

    Raises:
        Unavailable: The log or the snapshots cannot be read.
        Unreachable: No snapshot has what the log no longer has.
        UnusableFile: The file cannot be used.
    """
    first = await log.first()
    replica = await asyncio.to_thread(open_file, path)
    if replica.sequence + 1 >= first:
        return replica
    replica.close()
    taken = await snapshots.all()
    if not taken or taken[0].sequence + 1 < first:
        raise Unreachable(f"the log begins at {first}, and no snapshot reaches up to there")
    copy_on_disk.remove(path)
    await snapshots.fetch(taken[0], path)
    logger.info("begun from a snapshot", extra={"sequence": taken[0].sequence})
    return await asyncio.to_thread(open_file, path)


async def join(
    copy: Callable[[], Awaitable[Replica]],
    make: Callable[[Replica], ClusterBackend],
    limits: Limits | None,
) -> ClusterBackend:
    """Return a backend whose copy has what the log has.

    Where the log was purged while that began, it begins again, with a newer snapshot.

    Args:
        copy: Opens the copy.
        make: Makes a backend with it.
        limits: What the broker takes from now on; None for what it took before.

    Raises:
        Unavailable: The log cannot be reached, or not be applied.
    """
    for attempt in itertools.count(1):
        backend = make(await copy())
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
