"""Checkpoints of a thread that only the holder of its turn can add to.

LangGraph's checkpointers take the checkpoint with the highest id as the newest. Ids are derived
from the time. So a process that was paused while it stored a checkpoint would set its thread back.

Therefore the metadata of each checkpoint names its turn. A late checkpoint has a parent from which
a later turn has continued, too. The run continues from the newest checkpoint of the highest turn
after that parent. A paused process stores at most one late checkpoint: it renews its turn before
each.

Tasks write to the checkpoint from which their step began. It may be one of an earlier turn, and its
late writes would mix with those of the later turn, since savers store them by task. So writes to
such a checkpoint are stored a second time, with the turn, and read from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.types import INTERRUPT, RESUME

from langchain_mq9.calls import TURN
from langchain_mq9.worker.turns import Turn
from mq9 import Retry

logger = logging.getLogger("mq9.worker")

T = TypeVar("T")

_AT_ONCE = 32
_WORTH_A_WARNING_MS = 60_000
_SNAPSHOT_IS_DUE = (2**31, 2**31)  # updates and steps since the last one


class FencedSaver(BaseCheckpointSaver[Any]):
    """A checkpointer for one turn of one thread, which delegates to that of the graph.

    It stores nothing after the end of the turn, and continues from a checkpoint that no later turn
    has passed over. Calls for other threads are delegated unchanged.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], turn: Turn) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._turn = turn
        self._heads: dict[str, str | None] = {}  # by namespace; None where there is no checkpoint
        self._begun: set[str] = set()  # the checkpoints that the turn went on from
        self._takes_path = "task_path" in signature(saver.put_writes).parameters

    # Reads

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, by default the one to continue from."""
        if not self._is_to_find(config):
            at = self._at(config)
            return None if at is None else self._view(self._saver.get_tuple(at))
        thread, search = _all_of(config), _Search()
        while not search.is_over:
            search.look([*self._saver.list(thread, before=search.before, limit=search.limit)])
        return self._pinned(config, search.found)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, by default the one to continue from."""
        if not self._is_to_find(config):
            at = self._at(config)
            return None if at is None else self._view(await _whole(self._saver.aget_tuple(at)))
        thread, search = _all_of(config), _Search()
        while not search.is_over:
            listed = self._saver.alist(thread, before=search.before, limit=search.limit)
            search.look(await _whole(_all(listed)))
        return self._pinned(config, search.found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  # LangGraph's word
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List the checkpoints up to the one to continue from, newest first."""
        if config is None or not self._is_own(config):
            async for other in self._saver.alist(config, filter=filter, before=before, limit=limit):
                yield other
            return
        thread = _all_of(config)
        wanted: set[str] | None = None
        if filter or before:
            matching = self._saver.alist(thread, filter=filter, before=before)
            wanted = {_id(one) for one in await _whole(_all(matching))}
        one, left = None if wanted == set() else await self.aget_tuple(thread), limit
        while one is not None and left != 0:
            if wanted is not None and _id(one) < min(wanted):
                return  # otherwise it would read the whole thread
            if wanted is None or _id(one) in wanted:
                left = None if left is None else left - 1
                yield one
            parent = one.parent_config
            one = None if parent is None else await self.aget_tuple(parent)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """Return the writes of a checkpoint's ancestors to channels."""
        return await _whole(
            self._saver.aget_delta_channel_history(config=config, channels=channels)
        )

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """Return the writes of a checkpoint's ancestors to channels."""
        return self._saver.get_delta_channel_history(config=config, channels=channels)

    # Writes

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, from a thread that cannot wait for the broker."""
        if not self._is_own(config):
            return self._saver.put(config, checkpoint, metadata, new_versions)
        self._turn.check()
        stored = self._saver.put(config, checkpoint, self._marked(metadata), new_versions)
        self._heads[_namespace(config)] = checkpoint["id"]
        return stored

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, with the number of the turn."""
        if not self._is_own(config):
            return await _whole(self._saver.aput(config, checkpoint, metadata, new_versions))
        await self._turn.renew()
        marked = self._marked(metadata)
        stored = await _whole(self._saver.aput(config, checkpoint, marked, new_versions))
        self._heads[_namespace(config)] = checkpoint["id"]
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store the writes of a task, from a thread that cannot wait for the broker."""
        if self._is_own(config):
            self._turn.check()
        for stored in self._recorded(config, writes, task_id, task_path):
            self._saver.put_writes(config, *stored)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store the writes of a task."""
        if self._is_own(config):
            await self._turn.renew()
        for stored in self._recorded(config, writes, task_id, task_path):
            await _whole(self._saver.aput_writes(config, *stored))

    # Delegated calls

    @property
    def config_specs(self) -> list[Any]:
        """The options of the checkpointer."""
        return self._saver.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        """Return the next version of a channel."""
        return self._saver.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> FencedSaver:
        """Return a saver that reads and writes further types."""
        other = FencedSaver(self._saver.with_allowlist(extra_allowlist), self._turn)
        other._heads, other._begun = self._heads, self._begun
        return other

    def _is_own(self, config: RunnableConfig) -> bool:
        return bool(config["configurable"]["thread_id"] == self._turn.thread_id)

    def _marked(self, metadata: CheckpointMetadata) -> Any:
        return {**metadata, TURN: self._turn.number}

    def _recorded(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, path: str
    ) -> Iterator[Any]:
        """Return two copies of the writes: those read with the fence, and those read without."""
        more = (path,) if self._takes_path else ()
        if config["configurable"]["checkpoint_id"] in self._begun:
            record = (self._turn.number, task_id, [*writes])
            yield [(TURN, record)], str(uuid6()), *more
        yield writes, task_id, *more

    def _is_to_find(self, config: RunnableConfig) -> bool:
        """Return whether the checkpoint to continue from is requested, and is not known yet."""
        meant = self._is_own(config) and not config["configurable"].get("checkpoint_id")
        return meant and _namespace(config) not in self._heads

    def _at(self, config: RunnableConfig) -> RunnableConfig | None:
        """Return the configuration of a checkpoint, if there is one."""
        if not self._is_own(config) or config["configurable"].get("checkpoint_id"):
            return config
        head = self._heads[_namespace(config)]
        thread = _all_of(config)["configurable"]
        return None if head is None else {"configurable": {**thread, "checkpoint_id": head}}

    def _view(self, one: CheckpointTuple | None) -> CheckpointTuple | None:
        """Return a checkpoint without the late writes of tasks.

        LangGraph rebuilds a ``DeltaChannel`` from all writes, back to a checkpoint that holds its
        value. So the first checkpoint that a turn makes is to hold it.
        """
        if one is None:
            return None
        if _id(one) in self._begun:
            due = dict.fromkeys(one.checkpoint["channel_versions"], _SNAPSHOT_IS_DUE)
            metadata: Any = {**one.metadata, "counters_since_delta_snapshot": due}
            one = one._replace(metadata=metadata)
        return _settled(one)

    def _pinned(
        self, config: RunnableConfig, head: CheckpointTuple | None
    ) -> CheckpointTuple | None:
        """Store the checkpoint that the rest of the turn continues from."""
        if head is not None:
            if str(uuid6()) <= _id(head):
                raise Retry("the clock of this machine is behind that of an earlier worker")
            number = max([_turn(head) or 0, *(one[0] for one in _records(head))])
            if number >= self._turn.number:
                if number > self._turn.number + _WORTH_A_WARNING_MS:
                    logger.warning(
                        "the broker's time is behind that of an earlier turn",
                        extra={"thread_id": self._turn.thread_id},
                    )
                self._turn.number = number + 1
            self._begun.add(_id(head))
        self._heads[_namespace(config)] = None if head is None else _id(head)
        return self._view(head)


class _Search:
    """Finds the checkpoint to continue from, page by page.

    A checkpoint without a turn was stored on purpose, without a worker.
    """

    def __init__(self) -> None:
        self.found: CheckpointTuple | None = None
        self.before: RunnableConfig | None = None
        self.limit = 2  # nearly always the second one is the parent of the newest
        self.is_over = False
        self._last = ""

    def look(self, listed: Sequence[CheckpointTuple]) -> None:
        """Look at a page, the newest first."""
        self.is_over = len(listed) < self.limit
        for one in listed:
            if self.found is None:
                self.found = one
                self._last = _id(one) if _turn(one) is None else _parent(one) or ""
            elif _id(one) <= self._last:
                self.is_over = True
                return
            elif (_turn(one) or 0) > (_turn(self.found) or 0):
                self.found = one
            self.before, self.limit = one.config, _AT_ONCE


async def _all(listed: AsyncIterator[CheckpointTuple]) -> list[CheckpointTuple]:
    return [one async for one in listed]


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Await a call of a checkpointer, to its end even if the caller is cancelled.

    A query of SQLite that is cancelled half-way keeps its connection at the state of that moment,
    and the next one misses what another process has stored since.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("a checkpointer failed for a run that was cancelled: %r", error)
        raise


def _all_of(config: RunnableConfig) -> RunnableConfig:
    thread_id = config["configurable"]["thread_id"]
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": _namespace(config)}}


def _namespace(config: RunnableConfig) -> str:
    return str(config["configurable"].get("checkpoint_ns", ""))


def _id(one: CheckpointTuple) -> str:
    return one.checkpoint["id"]


def _parent(one: CheckpointTuple) -> str | None:
    if one.parent_config is None:
        return None
    return str(one.parent_config["configurable"]["checkpoint_id"])


def _records(one: CheckpointTuple) -> list[tuple[int, str, str, list[tuple[str, Any]]]]:
    """Return turn, key, task and writes of those that were stored with a turn, in that order."""
    pending = one.pending_writes or ()
    return sorted((value[0], key, *value[1:]) for key, channel, value in pending if channel == TURN)


def _settled(one: CheckpointTuple) -> CheckpointTuple:
    """Return a checkpoint with the writes of each task's latest turn.

    Earlier questions and answers stay, unless that turn has others.
    """
    if not (records := _records(one)):
        return one
    writes: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in one.pending_writes or ():
        if channel != TURN:
            writes.setdefault(task, []).append((channel, value))
    for _, _, task, latest in records:
        channels = {INTERRUPT, RESUME} - {channel for channel, _ in latest}
        writes[task] = [one for one in writes.get(task, ()) if one[0] in channels] + [*latest]
    return one._replace(
        pending_writes=[(task, *write) for task, written in writes.items() for write in written]
    )


def _turn(one: CheckpointTuple) -> int | None:
    """Return the number of the turn that a checkpoint was made in."""
    number: int | None = one.metadata.get(TURN)  # type: ignore[assignment]  # a key of our own
    return number
