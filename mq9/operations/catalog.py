"""The catalogue of operations, the source of the tools for LangChain and MCP."""

from __future__ import annotations

from typing import Any

from mq9.operations.acks import ack_messages
from mq9.operations.discovery import agent_discover
from mq9.operations.fetch import fetch_messages
from mq9.operations.mail import create_mailbox, delete_message
from mq9.operations.operation import Operation
from mq9.operations.own_agent import agent_register, agent_unregister, whoami
from mq9.operations.query import query_messages
from mq9.operations.send import send_message

# In the order in which an agent meets them.
OPERATIONS: tuple[Operation[Any, Any], ...] = (
    agent_register,
    agent_discover,
    create_mailbox,
    send_message,
    fetch_messages,
    ack_messages,
    query_messages,
    delete_message,
)

# For MCP alone, where the host names the agent. A program that uses LangChain names it itself, and
# unregisters it with the toolkit.
MCP_OPERATIONS: tuple[Operation[Any, Any], ...] = (whoami, agent_unregister)

ALL: dict[str, Operation[Any, Any]] = {one.name: one for one in (*OPERATIONS, *MCP_OPERATIONS)}
