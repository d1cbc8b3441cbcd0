"""The private mailbox of a LangGraph thread, where what the thread sends is answered."""

from __future__ import annotations

from mq9.operations.ownership import agent_key, code


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
