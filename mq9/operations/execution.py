"""Performs an operation for a caller; an error gives the model the next step."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from mq9 import errors
from mq9.errors import Mq9Error
from mq9.models import Unread
from mq9.operations.acks import loss
from mq9.operations.caller import Caller
from mq9.operations.operation import Arguments, Confirmation, Operation, Result
from mq9.operations.tool_names import ToolNames


class OperationError(Exception):
    """An operation failed; the text gives the model the next step."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


# The first class that the error belongs to decides. The texts are for ``ToolNames``.
_ADVICE: tuple[tuple[type[Mq9Error], str], ...] = (
    (
        errors.InvalidAddress,
        "Correct the address and call again[[; @agent_discover lists addresses]].",
    ),
    (errors.InvalidRequest, "Correct that argument and call again."),
    (
        errors.MailboxNotFound,
        "Check the address[[ with @agent_discover]]; who never ran has no mailbox yet.",
    ),
    (errors.MessageNotFound, "Use a msg_id that a result gave you."),
    (errors.MailboxExists, "Use it as it is, or choose another name."),
    (
        errors.AgentNotFound,
        "[[See @agent_discover for who is registered.|Tell the user if that is unexpected.]]",
    ),
    (errors.PayloadTooLarge, "Send less at once, or say where the rest can be found."),
    (
        errors.MailboxFull,
        "Its reader has fallen behind; try again later or write to another agent.",
    ),
    (errors.LimitReached, "Try again later."),
    (errors.IdConflict, "If this is to be sent as well, call again."),
    (errors.RequestFailed, "Ask in another way, or ask another agent; or tell the user."),
    (errors.Unauthorized, "Tell the user: the credentials of this connection are wrong."),
    (errors.Forbidden, "This is not allowed to you; go on without it or tell the user."),
    (errors.NotConnected, "Tell the user: the connection to the broker is closed."),
    (
        errors.OutcomeUnknown,
        "It may have happened all the same; repeat it only if twice does no harm.",
    ),
    (errors.TooExpensive, "Ask for less: narrow it down and call again."),
    (errors.BrokerFailed, "Nothing was done. Tell the user: somebody must repair the broker."),
    (errors.Unavailable, "Nothing was done. Try again later."),
)
_REPEAT = "Call again; twice does no harm."
ADVICE_OTHERWISE = "Tell the user if it happens again."


def explained(error: Mq9Error, operation: Operation[Any, Any], tools: ToolNames) -> OperationError:
    """Return an error of the broker or client with the next step of the model."""
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), ADVICE_OTHERWISE)
    if isinstance(error, errors.OutcomeUnknown) and operation.idempotent:
        advice = _REPEAT
    return OperationError(f"{error}. {tools.text(advice)}", error.code)


def unreachable(error: Exception) -> OperationError:
    """Return, for a model, why there is no connection to a broker."""
    code = error.code if isinstance(error, Mq9Error) else "error"
    return OperationError(f"no connection to the broker: {error}. Tell the user.", code)


_logger = logging.getLogger("mq9.operations")

R = TypeVar("R", bound=Result)

_MOST_LOSSES = 10  # in one result; the next one has the rest


async def confirmation(
    operation: Operation[Any, Any], caller: Caller, arguments: Arguments
) -> Confirmation | None:
    """Return the question to the user before an operation; None: no question."""
    if operation.confirmation is None:
        return None
    try:
        return await operation.confirmation(caller, arguments)
    except Mq9Error as error:
        raise explained(error, operation, caller.tools) from error


async def perform(operation: Operation[Any, R], caller: Caller, arguments: Arguments) -> R:
    """Perform an operation for a caller."""
    try:
        operation.check_allowed(caller)
        if caller.leases is not None:
            caller.leases.called(caller.consumer)
        if caller.identity is None:
            result: R = await operation.function(caller, arguments)
            return _with_lines(result, no_longer_yours=await _losses_line(caller))
        await caller.ensure_mailbox()
        address = caller.identity.mail_address
        with caller.client.watch_unread(address, address) as watch:
            result = await operation.function(caller, arguments)
        unread = Unread() if caller.has_worker else watch.unread
        if unread is not None and caller.private is not None:  # of the thread, besides
            unread += await caller.private.unread(caller.client, address)
        return _with_lines(
            result,
            your_unread=unread_line(unread, caller),
            no_longer_yours=await _losses_line(caller),
        )
    except Mq9Error as error:
        if isinstance(error, errors.MailboxNotFound) and caller.identity is not None:
            caller.identity.has_mailbox = False  # if it was its own, the next call makes it again
        raise explained(error, operation, caller.tools) from error
    except Exception as error:
        # The run of the model must continue; the log has the details.
        _logger.exception("%s failed unexpectedly", operation.name)
        name = caller.tools.text(f"@{operation.name}")
        raise OperationError(f"{name} failed: {error}. {ADVICE_OTHERWISE}", "error") from error


def _with_lines(result: R, **lines: str | None) -> R:
    told = {name: line for name, line in lines.items() if line is not None}
    return result.model_copy(update=told) if told else result


async def _losses_line(caller: Caller) -> str | None:
    """Report the lost leases of the caller, and why; each once."""
    if caller.leases is None or not caller.reads_results:
        return None
    losses = [
        f"message {msg_id} of {delivery.mail_address}: {what}"
        for msg_id, delivery in caller.leases.ended(caller.consumer, _MOST_LOSSES)
        if (what := await loss(caller, msg_id, delivery)) is not None
    ]
    return "; ".join(losses) or None


def unread_line(unread: Unread | None, caller: Caller) -> str | None:
    """Say in one short line what waits, and how to get it; nothing when nothing does."""
    if unread is None or unread.total == 0:
        return None
    counts = (unread.critical, "critical"), (unread.urgent, "urgent"), (unread.normal, "normal")
    present = [f"{count} {word}" for count, word in counts if count]
    is_plain = unread.total == unread.normal
    which = "" if is_plain else f" ({', '.join(present)})"
    return caller.tools.text(f"{unread.total} unread{which}[[: call @fetch_messages]]")
