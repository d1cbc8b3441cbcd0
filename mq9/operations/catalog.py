"""The eight operations in the order in which an agent meets them, and two on the agent itself."""

from __future__ import annotations

from typing import Any

from mq9.operations.acks import ACK_MESSAGES
from mq9.operations.discovery import AGENT_DISCOVER
from mq9.operations.fetch import FETCH_MESSAGES
from mq9.operations.mailboxes import CREATE_MAILBOX
from mq9.operations.messages import DELETE_MESSAGE, QUERY_MESSAGES, SEND_MESSAGE
from mq9.operations.operation import Operation
from mq9.operations.registration import AGENT_REGISTER, AGENT_UNREGISTER
from mq9.operations.whoami import WHOAMI

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    AGENT_REGISTER,
    AGENT_DISCOVER,
    CREATE_MAILBOX,
    SEND_MESSAGE,
    FETCH_MESSAGES,
    ACK_MESSAGES,
    QUERY_MESSAGES,
    DELETE_MESSAGE,
)

# For doors where an agent is told who it is, rather than telling it.
ON_ONESELF: tuple[Operation[Any, Any], ...] = (WHOAMI, AGENT_UNREGISTER)

ALL: dict[str, Operation[Any, Any]] = {one.name: one for one in (*OPERATIONS, *ON_ONESELF)}
