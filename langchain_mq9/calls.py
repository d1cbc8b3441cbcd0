"""One call of a tool: in which LangGraph thread, as which consumer, with which headers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import cast

from langchain_core.runnables import RunnableConfig

from mq9.operations.caller import Step

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
class Call:
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
    if tool_call_id is None:
        return config
    configurable = {**config.get("configurable", {}), _TOOL_CALL: tool_call_id}
    return cast(RunnableConfig, {**config, "configurable": configurable})


def with_step_id(config: RunnableConfig, step_id: str | None) -> RunnableConfig:
    """Return a configuration that says what of its node's questions is asked with it."""
    if step_id is None:
        return config
    configurable = {**config.get("configurable", {}), _STEP: step_id}
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
