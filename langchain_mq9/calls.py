"""One call of a tool: its LangGraph thread and branch, its consumer, and its message headers."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from mq9.operations.caller import Step
from mq9.operations.conversations import Before
from mq9.operations.identity import agent_key, code
from mq9.protocol import checks

# In the configuration of a run: the path of its message, and the conversation of that message.
PATH = "mq9_path"
CONVERSATION_OF = "mq9_conversation"
# In the metadata of a worker's run, and so of its checkpoints: the key of its message. It begins
# with the mailbox of that message.
MESSAGE = "mq9_message"
# In the metadata of a worker's checkpoints: the number of their turn.
TURN = "mq9_turn"
# In the configuration of a call: the ids of a step of its node, and of the model's tool call.
_STEP = "mq9_step_id"
_TOOL_CALL = "mq9_tool_call_id"

send_hops: ContextVar[int | None] = ContextVar("send_hops", default=None)


def thread_of(config: RunnableConfig) -> str | None:
    """Return the LangGraph thread of a configuration, if any."""
    thread = config.get("configurable", {}).get("thread_id")
    return None if thread is None else str(thread)


def task_of(config: RunnableConfig) -> Before | None:
    """Return the message that a run works on, if it is known."""
    configurable = config.get("configurable", {})
    task = Before(tuple(configurable.get(PATH) or ()), configurable.get(CONVERSATION_OF))
    return None if task == Before() else task


def worked_mailbox(config: RunnableConfig) -> str | None:
    """Return the mailbox whose worker runs the graph, if any."""
    key = config.get("metadata", {}).get(MESSAGE)
    return None if key is None else str(key).partition("/")[0]


@contextmanager
def hops_limited(most: int | None) -> Iterator[None]:
    """Limit the number of names in the path of messages sent inside. None means no limit."""
    token = send_hops.set(most)
    try:
        yield
    finally:
        send_hops.reset(token)


def with_call(
    config: RunnableConfig, *, tool_call: str | None = None, step: str | None = None
) -> RunnableConfig:
    """Return a configuration that names the model's tool call, or a step of a node."""
    named = {_TOOL_CALL: tool_call, _STEP: step}
    given = {key: value for key, value in named.items() if value is not None}
    configurable = {**config.get("configurable", {}), **given}
    return cast(RunnableConfig, {**config, "configurable": configurable}) if given else config


def _tool_call(config: RunnableConfig) -> str | None:
    return config.get("configurable", {}).get(_TOOL_CALL)


def idempotency_id(config: RunnableConfig) -> str | None:
    """Return the id of a tool call. A resumed thread that repeats the call gets the same id.

    Some models count their calls from one in each step, so the digest also covers the step.
    """
    namespace = config.get("configurable", {}).get("checkpoint_ns")
    parts = (thread_of(config), namespace, _tool_call(config))
    if None in parts or not namespace:
        return None
    return f"call.{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


PROGRESS = "progress"  # marks a message about progress
PROGRESS_OF = "progress-of"  # names the question that such a message belongs to


def run_headers() -> dict[str, str]:
    """Return the headers of LangSmith's distributed tracing. Empty outside of a traced run."""
    if "langsmith.run_helpers" not in sys.modules:
        return {}  # there is no trace, and the import would take time
    from langsmith.run_helpers import get_current_run_tree  # noqa: PLC0415  # see above

    run = get_current_run_tree()
    return (
        {} if run is None else {name: one for name, one in run.to_headers().items() if _fits(one)}
    )


def _fits(value: str) -> bool:
    return 1 <= len(value) <= checks.HEADER_VALUE_LENGTH and value.isprintable()


_MOST = 10_000  # graphs to remember
_SENT = "__pregel_push"  # the trigger of a task that ``Send`` created
_TOOL_NODE = "tools"  # the name of an agent's tool node, which gets each tool call separately


class Branches:
    """Numbers the tasks that use tools in one step of a graph.

    The tasks of a step run at the same time. All of them end before the next step begins. So
    consecutive tasks have the same number, 0. A branch of ``Send`` keeps its number from the send,
    even after a crash. Other branches get numbers when they first use a tool.

    Usable from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: OrderedDict[tuple[str, str], _Step] = OrderedDict()

    def current(self, run: str, config: RunnableConfig) -> tuple[int, ...]:
        """Return the numbers of the tasks around a tool call, outermost first.

        Trailing zeros are left out, so the first branch has the number of its graph. The tool calls
        of one model message share a number, although the agent sends them to its tool node one by
        one.
        """
        configurable = config.get("configurable", {})
        checkpoints = configurable.get("checkpoint_map") or {}
        parts = str(configurable.get("checkpoint_ns") or "").split("|")
        if _is_sent_to_the_tool_node(config):
            parts.pop()
        numbers = []
        for index, task in enumerate(parts):
            graph = "|".join(parts[:index])
            # A numeric part counts the subgraphs of one task.
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
    """The numbers of the tasks of one step. A step begins with a checkpoint."""

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self._tasks: dict[str, int] = {}
        self._used: set[int] = set()

    def number(self, task: str, wanted: int | None) -> int:
        """Return the number of a task: the wanted one, otherwise the next free one."""
        if task not in self._tasks:
            found = len(self._tasks) if wanted is None else wanted
            while found in self._used:
                found += 1
            self._tasks[task] = found
            self._used.add(found)
        return self._tasks[task]


def _number_of_send(config: RunnableConfig) -> int | None:
    """Return the index of the ``Send`` that runs the task, if any."""
    match config.get("metadata", {}).get("langgraph_path"):
        case (trigger, int(number), *_) if trigger == _SENT:
            return number
    return None


def _is_sent_to_the_tool_node(config: RunnableConfig) -> bool:
    metadata = config.get("metadata", {})
    return (
        _tool_call(config) is not None
        and metadata.get("langgraph_node") == _TOOL_NODE
        and _SENT in metadata.get("langgraph_triggers", ())
    )


def thread_mailbox(agent: str, thread_id: str) -> str:
    """Return the private mailbox of an agent's thread, the same in every process of this user.

    Only processes with the key of the user's agents can derive it.
    """
    return f"thread.{code(agent_key(), 'thread mailbox', agent, thread_id)}"


def thread_step(agent: str, config: RunnableConfig) -> Step | None:
    """Return the step of an agent's thread. A repetition is the same step. None without a thread.

    LangGraph names a step in the checkpoint namespace. A tool call or a step id within it is a step
    of its own. Answers go to another mailbox than the mail that the model reads.
    """
    configurable = config.get("configurable", {})
    thread, namespace = thread_of(config), configurable.get("checkpoint_ns")
    if thread is None or not namespace:
        return None
    key = agent_key()
    parts = [thread, namespace, _tool_call(config), configurable.get(_STEP)]
    return Step(
        secret=code(key, "step", agent, json.dumps(parts)),
        mail_address=f"asked.{code(key, 'asked mailbox', agent, thread)}",
    )


_LONGEST = 200  # characters
_BRANCH = "#"  # before the number of a branch


class ConsumerNames:
    """Names a consumer for each LangGraph thread, or for each run of a graph without a thread.

    A repeated run in its thread is the same consumer, and gets its unacked messages again. Its
    parallel branches, except the first, are further consumers.
    """

    def __init__(self, agent: str | None, run_ended: Callable[[str], None]) -> None:
        self._agent = agent or "agent"
        self._run_ended = weakref.WeakMethod(run_ended)
        self._branches = Branches()
        self._runs: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._outside_runs = secrets.token_hex(4)
        self._process = os.getpid()

    def current(self, config: RunnableConfig) -> tuple[str, str]:
        """Return the name of the consumer, and the common prefix of all branches of the run."""
        thread = thread_of(config)
        run = self._named(self._run() if thread is None else thread)
        numbers = self._branches.current(run, config)
        branch = "".join(f"{_BRANCH}{number}" for number in numbers)
        return f"{run}{branch}", run

    def _named(self, run: str) -> str:
        name = f"{self._agent}/{run}"
        if len(name) > _LONGEST or not name.isprintable() or name != name.strip() or _BRANCH in run:
            digest = hashlib.sha256(run.encode("utf-8", "backslashreplace")).hexdigest()
            name = f"{self._agent}/{digest[:16]}"
        return name

    def _run(self) -> str:
        """Return the name of the current graph run. Without one, return that of this process."""
        run = _stream_writer()
        if run is not None:
            if run not in self._runs:
                name = self._runs[run] = f"run-{secrets.token_hex(4)}"
                ended = weakref.finalize(run, _call_if_alive, self._run_ended, self._named(name))
                ended.atexit = False
            return self._runs[run]
        if self._process != os.getpid():  # a forked child is another consumer
            self._process = os.getpid()
            self._outside_runs = secrets.token_hex(4)
        return self._outside_runs


def _stream_writer() -> Any:
    """Return LangGraph's stream writer of the current run, if a graph runs."""
    if "langgraph.runtime" not in sys.modules:
        return None
    from langgraph.runtime import get_runtime  # noqa: PLC0415  # see above

    try:
        return getattr(get_runtime(), "stream_writer", None)
    except (RuntimeError, KeyError):
        return None


def _call_if_alive(method: weakref.WeakMethod[Callable[[str], None]], run: str) -> None:
    run_ended = method()
    if run_ended is not None:
        run_ended(run)
