"""Runs of a graph: begun by a message, continued from a checkpoint, or found to have ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph import errors
from langgraph.pregel import Pregel
from langgraph.pregel.protocol import PregelProtocol
from langgraph.types import Command, StateSnapshot

from langchain_mq9.calls import CONVERSATION_OF, MESSAGE, PATH
from langchain_mq9.worker.fence import FencedSaver
from langchain_mq9.worker.records import Origin
from langchain_mq9.worker.turns import Turn
from mq9 import InvalidRequest

logger = logging.getLogger("mq9.worker")

_NOT_FOUND = 404  # as servers of LangGraph answer
_NO_STATE = StateSnapshot({}, (), {}, None, None, None, tasks=(), interrupts=())

# Called with the stream of a run: the mode, and the value.
Listener = Callable[[str, Any], Awaitable[None]]


class How(StrEnum):
    """The way of a message to its final state."""

    STARTED = "started"
    CONTINUED = "continued"
    REPEATED = "repeated"
    WAITING = "waiting"  # for a person, whom an earlier message of the thread made it ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The run of a message."""

    thread_id: str
    origin: Origin
    is_redelivered: bool = False  # whether it may have run before

    @property
    def config(self) -> RunnableConfig:
        """The configuration of the run."""
        return {
            "configurable": {
                "thread_id": self.thread_id,
                PATH: list(self.origin.path),
                CONVERSATION_OF: self.origin.conversation,
            },
            "metadata": {MESSAGE: self.origin.message},
        }


class Runs:
    """Runs a graph in threads, each while the caller has the thread's turn.

    A run has ended only if its turn is held when its last checkpoint is stored: no later turn has
    begun without it then.
    """

    def __init__(self, graph: Any) -> None:
        if not all(hasattr(graph, name) for name in ("astream", "ainvoke", "aget_state")):
            kind = type(graph).__qualname__
            raise InvalidRequest(f"graph: {kind} does not run in threads; give a compiled graph")
        if isinstance(graph, Pregel) and (not graph.checkpointer or graph.checkpointer is True):
            raise InvalidRequest(
                "graph: it has no checkpointer, and could not go on after a crash; compile it with "
                "one, such as AsyncSqliteSaver, or InMemorySaver in a test"
            )
        # A step begins when the one before is stored, so that it will not be run again.
        self._options: dict[str, Any] = (
            {"durability": "sync"} if isinstance(graph, PregelProtocol) else {}
        )
        self._graph = graph

    async def check(self) -> None:
        """Ask for a state, so that an unusable checkpointer shows at once."""
        config: RunnableConfig = {
            "configurable": {"thread_id": "00000000-0000-5000-8000-000000000000"}
        }
        await _state(self._graph, config)

    async def settle(
        self,
        run: Run,
        turn: Turn,
        make_input: Callable[[], Awaitable[Any]],
        *,
        is_to_finish: Callable[[str], Awaitable[bool]],
        is_waiting: Callable[[], Awaitable[bool]],
        listener: Listener | None = None,
    ) -> tuple[How, StateSnapshot]:
        """Run a message to its end, and return the final state.

        ``is_to_finish`` returns whether the interrupted run of another message, by key, ends first.
        """
        graph = self._fenced(turn)
        state = await _state(graph, run.config)
        if _message(state) == run.origin.message:
            if has_ended(state) or state.interrupts:
                return How.REPEATED, state
            return How.CONTINUED, await self._run_to_end(graph, turn, None, run.config, listener)
        if run.is_redelivered:
            earlier = await _latest_of(graph, run)
            if earlier is not None and has_ended(earlier):
                return How.REPEATED, earlier
        if not has_ended(state) and await is_waiting():
            return How.WAITING, state
        await self._finish_other(graph, turn, state, run, is_to_finish)
        given = await make_input()
        return How.STARTED, await self._run_to_end(graph, turn, given, run.config, listener)

    async def resume(
        self,
        run: Run,
        turn: Turn,
        interrupt_id: str,
        value: Any,
        *,
        is_repeated: bool,
        listener: Listener | None = None,
    ) -> StateSnapshot | None:
        """Resume the run of a message with an answer; None if it has ended without that answer.

        ``is_repeated``: this was tried before, and may be done.
        """
        graph = self._fenced(turn)
        state = await _state(graph, run.config)
        if _message(state) != run.origin.message:
            latest = await _latest_of(graph, run) if is_repeated else None
            return latest if latest is not None and has_ended(latest) else None
        if not is_repeated and not _asks(state, interrupt_id):
            return None
        if is_repeated and _asks(state, interrupt_id):
            # The answer may be stored in the checkpoint, although the interrupt shows: given again,
            # it would answer the next question of the same node.
            state = await self._run_to_end(graph, turn, None, run.config, listener)
        if _asks(state, interrupt_id):
            given: Any = Command(resume={interrupt_id: value})
            return await self._run_to_end(graph, turn, given, run.config, listener)
        if not has_ended(state) and not state.interrupts:
            return await self._run_to_end(graph, turn, None, run.config, listener)
        return state

    def _fenced(self, turn: Turn) -> Any:
        """Return the graph with a saver that stores nothing after the turn."""
        graph = self._graph
        if not isinstance(graph, Pregel):
            return graph  # its server stores the checkpoints
        saver: Any = graph.checkpointer
        return graph.copy({"checkpointer": FencedSaver(saver, turn)})

    async def _run_to_end(
        self, graph: Any, turn: Turn, given: Any, config: RunnableConfig, listener: Listener | None
    ) -> StateSnapshot:
        """Run the graph until it ends or asks, renew the turn, and return the stored state."""
        await self._run_graph(graph, given, config, listener)
        state = await _state(graph, config)
        await turn.renew()
        return state

    async def _finish_other(
        self,
        graph: Any,
        turn: Turn,
        state: StateSnapshot,
        run: Run,
        is_to_finish: Callable[[str], Awaitable[bool]],
    ) -> None:
        """End a run of the same thread that a crash cut off, which this one builds upon."""
        other = _message(state)
        if other is None or not _is_cut_off(state) or not await is_to_finish(other):
            return
        config = run.config
        config["metadata"] = {MESSAGE: other}
        try:
            await self._run_graph(graph, None, config, None)
        except Exception as error:
            turn.check()
            if _is_cut_off(await _state(graph, config)):
                raise  # no node has failed, and the steps of the run are kept
            # Else it is that message's, which comes again.
            logger.warning(
                "the run that was cut off before failed: %r",
                error,
                extra={"thread_id": run.thread_id, "message_key": other},
            )

    async def _run_graph(
        self, graph: Any, given: Any, config: RunnableConfig, listener: Listener | None
    ) -> None:
        """Run the graph from an input, or with None from its last checkpoint."""
        if listener is None:
            await graph.ainvoke(given, config, **self._options)
            return
        modes = ["tasks", "custom"]
        async for mode, event, *_ in graph.astream(  # a remote graph adds an id
            given, config, stream_mode=modes, **self._options
        ):
            await listener(mode, event)


async def _state(graph: Any, config: RunnableConfig) -> StateSnapshot:
    try:
        state: StateSnapshot = await graph.aget_state(config)
    except Exception as error:
        if getattr(error, "status_code", None) == _NOT_FOUND:
            return _NO_STATE  # a server of LangGraph makes a thread with its first run
        raise
    return state


async def _latest_of(graph: Any, run: Run) -> StateSnapshot | None:
    """Return the last state of a run that others in its thread have followed."""
    states = graph.aget_state_history(
        {"configurable": {"thread_id": run.thread_id}},
        filter={MESSAGE: run.origin.message},
        limit=1,
    )
    async for state in states:
        latest: StateSnapshot = state
        return latest
    return None


def refuses_answer(error: Exception) -> bool:
    """Return whether a graph refuses an answer with an error, and still waits for one."""
    tells = getattr(errors, "is_invalid_resume", None)  # older versions check no answers
    return tells is not None and bool(tells(error))


def _message(state: StateSnapshot) -> str | None:
    metadata: Mapping[str, Any] = state.metadata or {}
    return metadata.get(MESSAGE)


def has_ended(state: StateSnapshot) -> bool:
    """Return whether a run has ended.

    ``next`` is not enough: it lacks tasks that are done while their step is not stored yet.
    """
    return not state.tasks


def _asks(state: StateSnapshot, interrupt_id: str) -> bool:
    """Return whether a state waits for the answer to an interrupt."""
    return any(one.id == interrupt_id for one in state.interrupts)


def _is_cut_off(state: StateSnapshot) -> bool:
    """Return whether a run has not ended, has not failed, and has no open question."""
    return (
        not has_ended(state) and not state.interrupts and not any(one.error for one in state.tasks)
    )
