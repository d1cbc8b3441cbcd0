"""Tells apart the branches of a graph that run at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict

from langchain_core.runnables import RunnableConfig

from langchain_mq9.calls import tool_call_of

_MOST = 10_000  # graphs whose step is remembered
_SENT = "__pregel_push"  # what triggers a task that was sent with ``Send``
_TOOL_NODE = "tools"  # what agents call theirs, to which they send each tool call by itself


class Branches:
    """Numbers the tasks that use tools in one step of a graph.

    The tasks of a step run at the same time: branches of ``Send``, nodes that follow on the same
    one, subgraphs among them. When the next step begins, all of them have ended, so that tasks
    which come one after the other have the same number, 0. A subgraph is a graph, too, and its
    number one of the task that runs it.

    A branch of ``Send`` has the number that it was sent as, which is the same after a crash.
    Others are numbered in the order in which they first use a tool.

    Usable from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: OrderedDict[tuple[str, str], _Step] = OrderedDict()

    def current(self, run: str, config: RunnableConfig) -> tuple[int, ...]:
        """Return the numbers of the tasks that a tool is called in, outermost first.

        Trailing zeros are left out: the first branch is not told apart from its graph. Nor are the
        tool calls of one message of a model, which an agent sends to its tool node one by one.

        Args:
            run: The thread or run, in which the namespaces of graphs are unique.
            config: The configuration of the call.
        """
        configurable = config.get("configurable", {})
        checkpoints = configurable.get("checkpoint_map") or {}
        parts = str(configurable.get("checkpoint_ns") or "").split("|")
        if _is_sent_to_the_tool_node(config):
            parts.pop()
        numbers = []
        for index, task in enumerate(parts):
            graph = "|".join(parts[:index])
            # A part that is a number counts the subgraphs which one task runs.
            if task and not task.isdigit() and graph in checkpoints:
                wanted = _number_of_send(config) if index == len(parts) - 1 else None
                numbers.append(self._number(run, graph, str(checkpoints[graph]), task, wanted))
        while numbers and numbers[-1] == 0:
            numbers.pop()
        return tuple(numbers)

    def _number(self, run: str, graph: str, step: str, task: str, wanted: int | None) -> int:
        with self._lock:
            latest = self._steps.get((run, graph))
            if latest is None or latest.checkpoint != step:
                latest = self._steps[run, graph] = _Step(step)
            self._steps.move_to_end((run, graph))
            if len(self._steps) > _MOST:
                self._steps.popitem(last=False)
            return latest.number(task, wanted)


class _Step:
    """The numbers of the tasks of one step of a graph.

    Args:
        checkpoint: The id of the checkpoint that the step began with.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self._tasks: dict[str, int] = {}
        self._used: set[int] = set()

    def number(self, task: str, wanted: int | None) -> int:
        """Return the number of a task: the wanted one, or else the next that no other has."""
        found = self._tasks.get(task)
        if found is None:
            found = len(self._tasks) if wanted is None else wanted
            while found in self._used:
                found += 1
            self._tasks[task] = found
            self._used.add(found)
        return found


def _number_of_send(config: RunnableConfig) -> int | None:
    r"""Return which of the step's ``Send``\ s runs the task; None for none of them."""
    match config.get("metadata", {}).get("langgraph_path"):
        case (trigger, int(number), *_) if trigger == _SENT:
            return number
    return None


def _is_sent_to_the_tool_node(config: RunnableConfig) -> bool:
    metadata = config.get("metadata", {})
    return (
        tool_call_of(config) is not None
        and metadata.get("langgraph_node") == _TOOL_NODE
        and _SENT in metadata.get("langgraph_triggers", ())
    )
