"""Checkpoints of a thread that only the holder of its turn can add to.

LangGraph's checkpointers take the checkpoint with the highest id for the newest. Ids are made of
the time. So a process that was paused while it stored a checkpoint would take its thread back.

So each checkpoint says in its metadata which turn it was made in. A late one has a parent that a
later turn has gone on from, too. Of the checkpoints after that parent the newest of the highest
turn is the one to go on from. A paused process stores one late checkpoint at most: it renews its
turn before each.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.base.id import uuid6

from langchain_mq9.calls import TURN
from langchain_mq9.worker.turns import Turn
from mq9 import Retry

logger = logging.getLogger("mq9.worker")

_AT_ONCE = 32
_WORTH_A_WARNING_MS = 60_000


class FencedSaver(BaseCheckpointSaver[Any]):
    """A checkpointer for one turn of one thread, which delegates to that of the graph.

    It refuses to store anything when the turn has ended, and goes on from a checkpoint that no
    later turn has passed over. What belongs to other threads is delegated as it is.

    Args:
        saver: The checkpointer of the graph.
        turn: The turn.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], turn: Turn) -> None:
        super().__init__(serde=saver.serde)
        self._saver = saver
        self._turn = turn
        self._heads: dict[str, str | None] = {}  # by namespace; None where there is no checkpoint
        self._takes_path = "task_path" in signature(saver.put_writes).parameters

    # What is read

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, by default the one to go on from."""
        if not self._seeks(config):
            return self._saver.get_tuple(config)
        thread, namespace = _all_of(config), _namespace(config)
        if namespace in self._heads:
            at = self._at_head(config)
            return None if at is None else self._saver.get_tuple(at)
        newest = self._saver.get_tuple(thread)
        search = _Search(newest)
        while (page := search.page) is not None:
            search.look(self._saver.list(thread, before=page.before, limit=page.limit))
        return self._pinned(namespace, search.found)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, by default the one to go on from."""
        if not self._seeks(config):
            return await self._saver.aget_tuple(config)
        thread, namespace = _all_of(config), _namespace(config)
        if namespace in self._heads:
            at = self._at_head(config)
            return None if at is None else await self._saver.aget_tuple(at)
        search = _Search(await self._saver.aget_tuple(thread))
        while (page := search.page) is not None:
            listed = self._saver.alist(thread, before=page.before, limit=page.limit)
            search.look([one async for one in listed])
        return self._pinned(namespace, search.found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  # LangGraph's word
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List the checkpoints that led to the one to go on from, the newest first."""
        if config is None or not self._is_own(config):
            async for one in self._saver.alist(config, filter=filter, before=before, limit=limit):
                yield one
            return
        thread = _all_of(config)
        matching = self._saver.alist(thread, filter=filter, before=before)
        wanted = {_id(one) async for one in matching} if filter or before else None
        head = None if wanted == set() else await self.aget_tuple(thread)
        expected, left = None if head is None else _id(head), limit
        async for one in self._newest_first(thread):
            if expected is None or left == 0 or (wanted is not None and _id(one) < min(wanted)):
                return
            if _id(one) != expected:
                continue
            expected = _parent(one)
            if wanted is None or _id(one) in wanted:
                left = None if left is None else left - 1
                yield one

    async def _newest_first(self, thread: RunnableConfig) -> AsyncIterator[CheckpointTuple]:
        """List all checkpoints, some at a time: a checkpointer is not kept while others wait."""
        before: RunnableConfig | None = None
        while page := [
            one async for one in self._saver.alist(thread, before=before, limit=_AT_ONCE)
        ]:
            for one in page:
                yield one
            before = page[-1].config

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """Return what the ancestors of a checkpoint wrote to channels."""
        return await self._saver.aget_delta_channel_history(config=config, channels=channels)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """Return what the ancestors of a checkpoint wrote to channels."""
        return self._saver.get_delta_channel_history(config=config, channels=channels)

    # What is stored

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
            return await self._saver.aput(config, checkpoint, metadata, new_versions)
        await self._turn.renew()
        stored = await self._saver.aput(config, checkpoint, self._marked(metadata), new_versions)
        self._heads[_namespace(config)] = checkpoint["id"]
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote, from a thread that cannot wait for the broker."""
        if self._is_own(config):
            self._turn.check()
        path = (task_path,) if self._takes_path else ()
        self._saver.put_writes(config, writes, task_id, *path)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote."""
        if self._is_own(config):
            await self._turn.renew()
        path = (task_path,) if self._takes_path else ()
        await self._saver.aput_writes(config, writes, task_id, *path)

    # What is passed on

    @property
    def config_specs(self) -> list[Any]:
        """What the checkpointer takes from a configuration."""
        return self._saver.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        """Return the next version of a channel."""
        return self._saver.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> FencedSaver:
        """Return one that reads and writes further types."""
        other = FencedSaver(self._saver.with_allowlist(extra_allowlist), self._turn)
        other._heads = self._heads
        return other

    def _is_own(self, config: RunnableConfig) -> bool:
        return bool(config["configurable"]["thread_id"] == self._turn.thread_id)

    def _marked(self, metadata: CheckpointMetadata) -> Any:
        return {**metadata, TURN: self._turn.number}

    def _seeks(self, config: RunnableConfig) -> bool:
        """Tell whether the checkpoint to go on from is meant, and no other."""
        return self._is_own(config) and not config["configurable"].get("checkpoint_id")

    def _at_head(self, config: RunnableConfig) -> RunnableConfig | None:
        head = self._heads[_namespace(config)]
        thread = _all_of(config)["configurable"]
        return None if head is None else {"configurable": {**thread, "checkpoint_id": head}}

    def _pinned(self, namespace: str, head: CheckpointTuple | None) -> CheckpointTuple | None:
        """Remember for the rest of the turn which checkpoint it goes on from.

        Raises:
            Retry: What follows would not be taken for newer.
        """
        if head is not None:
            if str(uuid6()) <= _id(head):
                raise Retry("the clock of this machine is behind that of an earlier worker")
            if (number := _turn(head) or 0) >= self._turn.number:
                if number > self._turn.number + _WORTH_A_WARNING_MS:
                    logger.warning(
                        "the broker's time is behind that of an earlier turn",
                        extra={"thread_id": self._turn.thread_id},
                    )
                self._turn.number = number + 1
        self._heads[namespace] = None if head is None else _id(head)
        return head


@dataclass(frozen=True, slots=True)
class _Page:
    """What to list next."""

    before: RunnableConfig
    limit: int


class _Search:
    """Finds the checkpoint to go on from, beginning with the newest one.

    One that tells no turn was stored by other means than a worker, and on purpose.

    Attributes:
        found: The best one so far.
        page: What else to look at; None when it is found.

    Args:
        newest: The newest checkpoint, if there is one.
    """

    def __init__(self, newest: CheckpointTuple | None) -> None:
        self.found = newest
        self.page: _Page | None = None
        if newest is not None and _turn(newest) is not None:
            self._last = _parent(newest) or ""
            self.page = _Page(newest.config, 1)  # nearly always this one is the parent

    def look(self, listed: Iterable[CheckpointTuple]) -> None:
        """Look at a page, the newest first."""
        seen, page = list(listed), self.page
        assert self.found is not None  # noqa: S101  # else there is no page
        assert page is not None  # noqa: S101  # the caller lists only while there is one
        for one in seen:
            if _id(one) <= self._last:
                self.page = None
                return
            if (_turn(one) or 0) > (_turn(self.found) or 0):
                self.found = one
        is_all = len(seen) < page.limit
        self.page = None if is_all else _Page(seen[-1].config, _AT_ONCE)


def _all_of(config: RunnableConfig) -> RunnableConfig:
    """Return the thread and namespace of a configuration."""
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


def _turn(one: CheckpointTuple) -> int | None:
    """Return the number of the turn that a checkpoint was made in."""
    number: int | None = one.metadata.get(TURN)  # type: ignore[assignment]  # a key of our own
    return number
