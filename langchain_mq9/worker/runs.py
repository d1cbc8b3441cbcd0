"""Runs of a graph: begun by a message, continued from a checkpoint, or found to have ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot

from langchain_mq9.calls import PATH
from mq9 import InvalidRequest

logger = logging.getLogger("mq9.worker")

MESSAGE = "mq9_message"  # in the metadata of a run's checkpoints: the key of its message

# Takes part in what a run streams: the mode, and what was streamed.
Listener = Callable[[str, Any], Awaitable[None]]


class How(StrEnum):
    """How a message came to its final state."""

    STARTED = "started"
    CONTINUED = "continued"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The run of a message.

    Attributes:
        thread_id: Its thread.
        message: The key of the message.
        path: The agents that the conversation has passed through.
        is_redelivered: Whether the message was delivered before, so that it may have run.
    """

    thread_id: str
    message: str
    path: tuple[str, ...] = ()
    is_redelivered: bool = False

    @property
    def config(self) -> RunnableConfig:
        """The configuration of the run."""
        return {
            "configurable": {"thread_id": self.thread_id, PATH: list(self.path)},
            "metadata": {MESSAGE: self.message},
        }


class Runs:
    """Runs a graph in threads.

    Args:
        graph: Whatever runs in threads and tells their state, as a compiled graph with a
            checkpointer and a ``RemoteGraph`` do.

    Raises:
        InvalidRequest: The graph is not compiled, or has no checkpointer.
    """

    def __init__(self, graph: Any) -> None:
        if not all(hasattr(graph, name) for name in ("astream", "ainvoke", "aget_state")):
            kind = type(graph).__qualname__
            raise InvalidRequest(f"graph: {kind} does not run in threads; give a compiled graph")
        if isinstance(graph, Pregel):
            if not graph.checkpointer or graph.checkpointer is True:
                raise InvalidRequest(
                    "graph: it has no checkpointer, and could not go on after a crash; compile it "
                    "with one, such as AsyncSqliteSaver, or InMemorySaver in a test"
                )
            # A step begins when the one before is stored: it will not be run again.
            self._options: dict[str, Any] = {"durability": "sync"}
        else:
            self._options = {}
        self._graph = graph

    async def check(self) -> None:
        """Ask for a state, so that a checkpointer that cannot be used is known at once.

        Raises:
            Exception: What the graph raises.
        """
        await self._state({"configurable": {"thread_id": "00000000-0000-5000-8000-000000000000"}})

    async def settle(
        self,
        run: Run,
        make_input: Callable[[], Awaitable[Any]],
        *,
        is_to_finish: Callable[[str], Awaitable[bool]],
        listener: Listener | None = None,
    ) -> tuple[How, StateSnapshot]:
        """Bring the run of a message to its end, and return the state that it ends with.

        Args:
            run: The run, which has its thread for itself meanwhile.
            make_input: Makes its input, where it begins.
            is_to_finish: Tells of another message, by its key, whose run was cut off in this
                thread, whether that run is to be ended first.
            listener: Is told of what the run streams.

        Raises:
            Exception: What the graph raises.
        """
        state = await self._state(run.config)
        if _message(state) == run.message:
            if _has_ended(state) or state.interrupts:
                return How.REPEATED, state
            await self._go_on(None, run.config, listener)
            return How.CONTINUED, await self._state(run.config)
        if run.is_redelivered:
            earlier = await self._latest_of(run)
            if earlier is not None and _has_ended(earlier):
                return How.REPEATED, earlier
        await self._finish_other(state, run, is_to_finish)
        await self._go_on(await make_input(), run.config, listener)
        return How.STARTED, await self._state(run.config)

    async def _finish_other(
        self,
        state: StateSnapshot,
        run: Run,
        is_to_finish: Callable[[str], Awaitable[bool]],
    ) -> None:
        """End a run of the same thread that a crash cut off: what follows builds upon it."""
        other = _message(state)
        if other is None or not _is_cut_off(state) or not await is_to_finish(other):
            return
        config = run.config
        config["metadata"] = {MESSAGE: other}
        try:
            await self._go_on(None, config, None)
        except Exception as error:  # noqa: BLE001  # it is that message's, which comes again
            logger.warning(
                "the run that was cut off before failed: %r",
                error,
                extra={"thread_id": run.thread_id, "message_key": other},
            )

    async def _go_on(self, given: Any, config: RunnableConfig, listener: Listener | None) -> None:
        if listener is None:
            await self._graph.ainvoke(given, config, **self._options)
            return
        modes = ["tasks", "custom"]
        async for mode, event in self._graph.astream(
            given, config, stream_mode=modes, **self._options
        ):
            await listener(mode, event)

    async def _state(self, config: RunnableConfig) -> StateSnapshot:
        state: StateSnapshot = await self._graph.aget_state(config)
        return state

    async def _latest_of(self, run: Run) -> StateSnapshot | None:
        """Return the last state of a run that others in its thread have followed."""
        states = self._graph.aget_state_history(
            {"configurable": {"thread_id": run.thread_id}}, filter={MESSAGE: run.message}, limit=1
        )
        async for state in states:
            latest: StateSnapshot = state
            return latest
        return None


def _message(state: StateSnapshot) -> str | None:
    """Return the key of the message that a state belongs to."""
    metadata: Mapping[str, Any] = state.metadata or {}
    return metadata.get(MESSAGE)


def _has_ended(state: StateSnapshot) -> bool:
    """Tell whether a run has ended.

    ``next`` does not tell: it leaves out tasks that are done and whose step is not stored yet.
    """
    return not state.tasks


def _is_cut_off(state: StateSnapshot) -> bool:
    """Tell whether a run neither ended nor failed nor asks anything."""
    return (
        not _has_ended(state) and not state.interrupts and not any(one.error for one in state.tasks)
    )
