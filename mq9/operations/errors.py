"""Errors of operations: what failed, and what the model can do next."""

from __future__ import annotations

from typing import Any

from mq9.errors import (
    AgentNotFound,
    BrokerFailed,
    Forbidden,
    IdConflict,
    InvalidAddress,
    InvalidRequest,
    LimitReached,
    MailboxExists,
    MailboxFull,
    MailboxNotFound,
    MessageNotFound,
    Mq9Error,
    NotConnected,
    OutcomeUnknown,
    PayloadTooLarge,
    RequestFailed,
    TooExpensive,
    Unauthorized,
    Unavailable,
)
from mq9.operations.operation import Operation
from mq9.operations.tool_names import ToolNames


class OperationError(Exception):
    """An operation failed; the text is for the model and says what to do next.

    Attributes:
        code: The stable word of the error.
    """

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


# The first class that the error belongs to decides. The texts are for ``ToolNames``.
_ADVICE: tuple[tuple[type[Mq9Error], str], ...] = (
    (InvalidAddress, "Correct the address and call again[[; @agent_discover lists addresses]]."),
    (InvalidRequest, "Correct that argument and call again."),
    (
        MailboxNotFound,
        "Check the address[[ with @agent_discover]]; who never ran has no mailbox yet.",
    ),
    (MessageNotFound, "Use a msg_id that a result gave you."),
    (MailboxExists, "Use it as it is, or choose another name."),
    (
        AgentNotFound,
        "[[See @agent_discover for who is registered.|Tell the user if that is unexpected.]]",
    ),
    (PayloadTooLarge, "Send less at once, or say where the rest can be found."),
    (MailboxFull, "Its reader has fallen behind; try again later or write to another agent."),
    (LimitReached, "Try again later."),
    (IdConflict, "If this is to be sent as well, call again."),
    (RequestFailed, "Ask in another way, or ask another agent; or tell the user."),
    (Unauthorized, "Tell the user: the credentials of this connection are wrong."),
    (Forbidden, "This is not allowed to you; go on without it or tell the user."),
    (NotConnected, "Tell the user: the connection to the broker is closed."),
    (OutcomeUnknown, "It may have happened all the same; repeat it only if twice does no harm."),
    (TooExpensive, "Ask for less: narrow it down and call again."),
    (BrokerFailed, "Nothing was done. Tell the user: somebody must repair the broker."),
    (Unavailable, "Nothing was done. Try again later."),
)
_REPEAT = "Call again; twice does no harm."
ADVICE_OTHERWISE = "Tell the user if it happens again."


def explained(error: Mq9Error, operation: Operation[Any, Any], tools: ToolNames) -> OperationError:
    """Return an error of the broker or client as one that tells a model what to do next."""
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), ADVICE_OTHERWISE)
    if isinstance(error, OutcomeUnknown) and operation.idempotent:
        advice = _REPEAT
    return OperationError(f"{error}. {tools.text(advice)}", error.code)


def unreachable(error: Exception) -> OperationError:
    """Return, for a model, why there is no connection to a broker."""
    code = error.code if isinstance(error, Mq9Error) else "error"
    return OperationError(f"no connection to the broker: {error}. Tell the user.", code)
