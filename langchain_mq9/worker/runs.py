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

from langchain_mq9.calls import MESSAGE, PATH
from mq9 import InvalidRequest

logger = logging.getLogger("mq9.worker")

_NOT_FOUND = 404  # as servers of LangGraph answer
_NO_STATE = StateSnapshot(
    values={},
    next=(),
    config={},
    metadata=None,
    created_at=None,
    parent_config=None,
    tasks=(),
    interrupts=(),
)

# Takes part in what a run streams: the mode, and what was streamed.
Listener = Callable[[str, Any], Awaitable[None]]


class How(StrEnum):
    """How a message came to its final state."""

    STARTED = "started"
    CONTINUED = "continued"
    REPEATED = "repeated"
    WAITING = "waiting"  # for a person, whom an earlier message of the thread made it ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The run of a message.

    Attributes:
        thread_id: Its thread.
        message: The key of the message.
        path: The agents that the conversation has passed through.
        is_redelivered: Whether the message may have been delivered before, and so may have run.
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
        is_waiting: Callable[[], Awaitable[bool]],
        listener: Listener | None = None,
    ) -> tuple[How, StateSnapshot]:
        """Bring the run of a message to its end, and return the state that it ends with.

        Args:
            run: The run, which has its thread for itself meanwhile.
            make_input: Makes its input, where it begins.
            is_to_finish: Tells of another message, by its key, whose run was cut off in this
                thread, whether that run is to be ended first.
            is_waiting: Tells whether the thread waits for a person, so that nothing else may run.
            listener: Is told of what the run streams.

        Raises:
            Exception: What the graph raises.
        """
        state = await self._state(run.config)
        if _message(state) == run.message:
            if has_ended(state) or state.interrupts:
                return How.REPEATED, state
            await self._go_on(None, run.config, listener)
            return How.CONTINUED, await self._state(run.config)
        if run.is_redelivered:
            earlier = await self._latest_of(run)
            if earlier is not None and has_ended(earlier):
                return How.REPEATED, earlier
        if not has_ended(state) and await is_waiting():
            return How.WAITING, state
        await self._finish_other(state, run, is_to_finish)
        await self._go_on(await make_input(), run.config, listener)
        return How.STARTED, await self._state(run.config)

    async def resume(
        self,
        run: Run,
        interrupt_id: str,
        value: Any,
        *,
        is_repeated: bool,
        listener: Listener | None = None,
    ) -> StateSnapshot | None:
        """Let the run of a message go on with the answer to what it interrupted itself for.

        Args:
            run: The run, which has its thread for itself meanwhile.
            interrupt_id: The interrupt.
            value: The answer.
            is_repeated: Whether this was tried before, and perhaps done.
            listener: Is told of what the run streams.

        Returns:
            The state that it ends with; None when it is over without this answer.

        Raises:
            Exception: What the graph raises.
        """
        state = await self._state(run.config)
        if _message(state) != run.message:
            latest = await self._latest_of(run) if is_repeated else None
            return latest if latest is not None and has_ended(latest) else None
        if not is_repeated and not _asks(state, interrupt_id):
            return None
        if is_repeated and _asks(state, interrupt_id):
            # The answer may be stored in the checkpoint, although the interrupt shows: given again,
            # it would answer the next question of the same node.
            await self._go_on(None, run.config, listener)
            state = await self._state(run.config)
        if _asks(state, interrupt_id):
            await self._go_on(Command(resume={interrupt_id: value}), run.config, listener)
        elif not has_ended(state) and not state.interrupts:
            await self._go_on(None, run.config, listener)
        return await self._state(run.config)

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
        async for mode, event, *_ in self._graph.astream(  # a remote graph adds an id
            given, config, stream_mode=modes, **self._options
        ):
            await listener(mode, event)

    async def _state(self, config: RunnableConfig) -> StateSnapshot:
        try:
            state: StateSnapshot = await self._graph.aget_state(config)
        except Exception as error:
            if getattr(error, "status_code", None) == _NOT_FOUND:
                return _NO_STATE  # a server of LangGraph makes a thread with its first run
            raise
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


def refuses_answer(error: Exception) -> bool:
    """Tell whether a graph has raised an error since it does not take an answer, and waits on."""
    tells = getattr(errors, "is_invalid_resume", None)  # older versions check no answers
    return tells is not None and bool(tells(error))


def _message(state: StateSnapshot) -> str | None:
    """Return the key of the message that a state belongs to."""
    metadata: Mapping[str, Any] = state.metadata or {}
    return metadata.get(MESSAGE)


def has_ended(state: StateSnapshot) -> bool:
    """Tell whether a run has ended.

    ``next`` does not tell: it leaves out tasks that are done and whose step is not stored yet.
    """
    return not state.tasks


def _asks(state: StateSnapshot, interrupt_id: str) -> bool:
    """Tell whether a state waits for the answer to an interrupt."""
    return any(one.id == interrupt_id for one in state.interrupts)


def _is_cut_off(state: StateSnapshot) -> bool:
    """Tell whether a run neither ended nor failed nor asks anything."""
    return (
        not has_ended(state) and not state.interrupts and not any(one.error for one in state.tasks)
    )
