"""One call of a tool: its LangGraph thread and branch, the consumer it fetches as, its headers."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from mq9.operations.caller import Step
from mq9.operations.identity import agent_key, code
from mq9.protocol import checks

PATH = "mq9_path"  # in a run's configuration: that of the message which the run works on
# In the metadata of a worker's run, and so of its checkpoints: the key of its message, which begins
# with the mailbox that the message came to.
MESSAGE = "mq9_message"
# In the metadata of a worker's checkpoints: the number of the turn that they were made in.
TURN = "mq9_turn"
_STEP = "mq9_step_id"  # in the configuration of a call: what tells it from others of its node
_TOOL_CALL = "mq9_tool_call_id"  # in the configuration that a tool is given: the id of the call


send_hops: ContextVar[int | None] = ContextVar("send_hops", default=None)


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a call says beside its arguments.

    Attributes:
        consumer: Who fetches.
        run: The name of the thread or run, which its parallel branches have in common.
        thread_id: The LangGraph thread that it is made in; None outside of threads.
        idempotency_id: Its id, the same when a thread that is resumed makes it again; None for a
            call that cannot be told from others.
        headers: What goes with each message that it sends.
        task: The path of the message that the run works on, where that is known.
        step: The step of the thread that it is made in; None outside of threads.
        send_hops: How many names the path of what it sends may have; None for any number.
        worked: The mailbox whose mail a worker takes, for a message of which it runs the graph;
            None where no worker runs it.
    """

    consumer: str
    run: str
    thread_id: str | None = None
    idempotency_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    task: tuple[str, ...] = ()
    send_hops: int | None = None
    step: Step | None = None
    worked: str | None = None


def thread_of(config: RunnableConfig) -> str | None:
    """Return the LangGraph thread that a configuration is of; None for none."""
    thread = config.get("configurable", {}).get("thread_id")
    return None if thread is None else str(thread)


def task_path(config: RunnableConfig) -> tuple[str, ...]:
    """Return the path of the message that a run works on; empty where it is not known."""
    return tuple(config.get("configurable", {}).get(PATH) or ())


def worked_mailbox(config: RunnableConfig) -> str | None:
    """Return the mailbox whose mail a worker runs the graph for; None where no worker does."""
    key = config.get("metadata", {}).get(MESSAGE)
    return None if key is None else str(key).partition("/")[0]


@contextmanager
def hops_limited(most: int | None) -> Iterator[None]:
    """Let the path of what is sent by calls inside have no more names; None for any number."""
    token = send_hops.set(most)
    try:
        yield
    finally:
        send_hops.reset(token)


def with_tool_call(config: RunnableConfig, tool_call_id: str | None) -> RunnableConfig:
    """Return a configuration that says which of a model's tool calls is made with it."""
    return _with(config, _TOOL_CALL, tool_call_id)


def with_step_id(config: RunnableConfig, step_id: str | None) -> RunnableConfig:
    """Return a configuration that says what of its node's questions is asked with it."""
    return _with(config, _STEP, step_id)


def _with(config: RunnableConfig, key: str, value: str | None) -> RunnableConfig:
    if value is None:
        return config
    configurable = {**config.get("configurable", {}), key: value}
    return cast(RunnableConfig, {**config, "configurable": configurable})


def step_id_of(config: RunnableConfig) -> str | None:
    """Return what tells a node's questions from others of the node; None for nothing."""
    step_id: str | None = config.get("configurable", {}).get(_STEP)
    return step_id


def tool_call_of(config: RunnableConfig) -> str | None:
    """Return the id of the model's tool call that is made; None for a call by other code."""
    tool_call_id: str | None = config.get("configurable", {}).get(_TOOL_CALL)
    return tool_call_id


def idempotency_id(config: RunnableConfig) -> str | None:
    """Return the id of a tool call, the same when its thread is resumed and makes it again.

    It is a digest of the thread, of the checkpoint namespace, which names the step that the call
    belongs to, and of the tool call's own id, since some models count theirs from one in each step.

    Returns:
        The id; None outside of a graph's thread, and for a call without an id of its own.
    """
    namespace = config.get("configurable", {}).get("checkpoint_ns")
    parts = (thread_of(config), namespace, tool_call_of(config))
    if None in parts or not namespace:
        return None
    return f"call.{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


CONVERSATION = "conversation"  # by which a sender names a conversation
PROGRESS = "progress"  # tells a message about progress from an answer
PROGRESS_OF = "progress-of"  # names the question that such a message belongs to


def run_headers() -> dict[str, str]:
    """Return the headers by which whoever reads a message continues the current run.

    They are those of LangSmith's distributed tracing, ``langsmith-trace`` and ``baggage``; one that
    is longer than a header of a message may be is left out. Outside of a traced run there are none.
    """
    if "langsmith.run_helpers" not in sys.modules:
        return {}  # nothing is traced, and importing it takes its time
    from langsmith.run_helpers import get_current_run_tree  # noqa: PLC0415  # see above

    run = get_current_run_tree()
    if run is None:
        return {}
    found = run.to_headers()
    return {name: value for name, value in found.items() if _fits(value)}


def _fits(value: str) -> bool:
    return 1 <= len(value) <= checks.HEADER_VALUE_LENGTH and value.isprintable()


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


def thread_mailbox(agent: str, thread_id: str) -> str:
    """Return the address of the private mailbox of an agent's thread.

    It is the same in every process of this user, so that a thread that is resumed elsewhere finds
    its answers, and nobody without the key of the user's agents can guess it.

    Args:
        agent: The name of the agent that the tools act as.
        thread_id: The ``thread_id`` of the configuration that the graph runs with.

    Raises:
        InvalidRequest: The key of this user's agents cannot be used; see ``MQ9_AGENT_KEY``.
    """
    return f"thread.{code(agent_key(), 'thread mailbox', agent, thread_id)}"


def thread_step(agent: str, config: RunnableConfig) -> Step | None:
    """Return the step of an agent's thread that a configuration is of.

    It is the same when the step is taken again, in any process of this user: LangGraph names a step
    in the checkpoint namespace. Its questions are answered in one mailbox of the thread, apart from
    the one whose mail the model reads.

    Args:
        agent: The name of the agent.
        config: The configuration of a node; or of a tool call in it, or one with a step id, which
            are steps of their own.

    Returns:
        The step; None outside of a graph's thread.

    Raises:
        InvalidRequest: The key of this user's agents cannot be used; see ``MQ9_AGENT_KEY``.
    """
    thread, namespace = thread_of(config), config.get("configurable", {}).get("checkpoint_ns")
    if thread is None or not namespace:
        return None
    key = agent_key()
    parts = [thread, namespace, tool_call_of(config), step_id_of(config)]
    return Step(
        secret=code(key, "step", agent, json.dumps(parts)),
        mail_address=f"asked.{code(key, 'asked mailbox', agent, thread)}",
    )


_LONGEST = 200  # characters
_BRANCH = "#"  # before the number of a branch


class ConsumerNames:
    """Names a consumer for each LangGraph thread, or for each run of a graph without a thread.

    A run that is repeated in its thread is the same consumer, and gets what it had not acked. Its
    parallel branches are consumers of their own, but for the first, so that each gets other
    messages.

    Args:
        agent: The agent, with whose name those of its consumers begin.
        run_ended: A method that is told the name of a run without a thread when that has ended,
            which nothing can resume; from any thread. Its object is not kept alive.
    """

    def __init__(self, agent: str | None, run_ended: Callable[[str], None]) -> None:
        self._agent = agent or "agent"
        self._run_ended = weakref.WeakMethod(run_ended)
        self._branches = Branches()
        self._runs: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._outside_runs = secrets.token_hex(4)
        self._process = os.getpid()

    def current(self, config: RunnableConfig) -> tuple[str, str]:
        """Return the name of the consumer that a tool is called by, and that of its thread or run.

        The latter is the same for all branches, whose names begin with it.
        """
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
        """Return a name for the current run of a graph, or else for this process."""
        run = _stream_writer()
        if run is not None:
            if run not in self._runs:
                name = self._runs[run] = f"run-{secrets.token_hex(4)}"
                weakref.finalize(run, _tell, self._run_ended, self._named(name)).atexit = False
            return self._runs[run]
        if self._process != os.getpid():  # a forked child is another consumer
            self._process = os.getpid()
            self._outside_runs = secrets.token_hex(4)
        return self._outside_runs


def _stream_writer() -> Any:
    """Return what is made anew for each run of a graph and is the same throughout it, if one runs.

    What runs a graph has loaded LangGraph, which takes its time.
    """
    if "langgraph.runtime" not in sys.modules:
        return None
    from langgraph.runtime import get_runtime  # noqa: PLC0415  # see above

    try:
        return getattr(get_runtime(), "stream_writer", None)
    except (RuntimeError, KeyError):
        return None


def _tell(method: weakref.WeakMethod[Callable[[str], None]], run: str) -> None:
    told = method()
    if told is not None:
        told(run)
