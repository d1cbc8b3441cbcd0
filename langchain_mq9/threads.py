"""The private mailbox of a LangGraph thread, where what the thread sends is answered."""

from __future__ import annotations

import json

from langchain_core.runnables import RunnableConfig

from langchain_mq9.calls import step_id_of, thread_of, tool_call_of
from mq9.operations.caller import Step
from mq9.operations.identity import agent_key, code


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
