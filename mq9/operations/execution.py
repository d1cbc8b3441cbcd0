"""Performs an operation for a caller."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from mq9.errors import MailboxNotFound, Mq9Error
from mq9.models import Unread
from mq9.operations.arguments import Arguments
from mq9.operations.caller import Caller
from mq9.operations.errors import ADVICE_OTHERWISE, OperationError, explained
from mq9.operations.operation import Confirmation, Operation
from mq9.operations.result import Result
from mq9.operations.standing import loss

_logger = logging.getLogger("mq9.operations")

R = TypeVar("R", bound=Result)

_MOST_LOSSES = 10  # that one result says; the next one has the rest


async def confirmation(
    operation: Operation[Any, Any], caller: Caller, arguments: Arguments
) -> Confirmation | None:
    """Return what the user is to be asked before an operation is performed; None for nothing.

    Raises:
        OperationError: The operation would fail anyway.
    """
    if operation.confirmation is None:
        return None
    try:
        return await operation.confirmation(caller, arguments)
    except Mq9Error as error:
        raise explained(error, operation, caller.tools) from error


async def perform(operation: Operation[Any, R], caller: Caller, arguments: Arguments) -> R:
    """Perform an operation for a caller.

    Returns:
        The result, with a line on unread mail where the caller is an agent that has some, and one
        on messages whose leases it has lost.

    Raises:
        OperationError: It failed, whatever the reason.
    """
    try:
        operation.check_allowed(caller)
        if caller.identity is None:
            result: R = await operation.function(caller, arguments)
            return _with_lines(result, no_longer_yours=await _losses_line(caller))
        await caller.ensure_mailbox()
        address = caller.identity.mail_address
        with caller.client.watch_unread(address, address) as watch:
            result = await operation.function(caller, arguments)
        unread = Unread() if caller.has_worker else watch.unread
        return _with_lines(
            result,
            unread=unread_line(await _with_answers(caller, unread), caller),
            no_longer_yours=await _losses_line(caller),
        )
    except Mq9Error as error:
        if isinstance(error, MailboxNotFound) and caller.identity is not None:
            caller.identity.has_mailbox = False  # if it was its own, the next call makes it again
        raise explained(error, operation, caller.tools) from error
    except Exception as error:
        # A model's run must go on; the program's log has the rest.
        _logger.exception("%s failed unexpectedly", operation.name)
        name = caller.tools.text(f"@{operation.name}")
        raise OperationError(f"{name} failed: {error}. {ADVICE_OTHERWISE}", "error") from error


def _with_lines(result: R, **lines: str | None) -> R:
    told = {name: line for name, line in lines.items() if line is not None}
    return result.model_copy(update=told) if told else result


async def _losses_line(caller: Caller) -> str | None:
    """Say which messages the caller has lost the lease of, and why; each is said once."""
    if caller.leases is None or not caller.reads_results:
        return None
    losses = [
        f"message {msg_id} of {delivery.mail_address}: {what}"
        for msg_id, delivery in caller.leases.ended(caller.consumer, _MOST_LOSSES)
        if (what := await loss(caller, msg_id, delivery)) is not None
    ]
    return "; ".join(losses) or None


async def _with_answers(caller: Caller, unread: Unread | None) -> Unread | None:
    """Add to what waits in the agent's mailbox what waits in that of the thread which calls."""
    if unread is None or caller.private is None or caller.identity is None:
        return unread
    group = caller.identity.mail_address
    return unread + await caller.private.unread(caller.client, group)


def unread_line(unread: Unread | None, caller: Caller) -> str | None:
    """Say in one short line what waits, and how to get it; nothing when nothing does."""
    if unread is None or unread.total == 0:
        return None
    pressing = [
        f"{count} {word}"
        for count, word in ((unread.critical, "critical"), (unread.urgent, "urgent"))
        if count
    ]
    which = f" ({', '.join(pressing)})" if pressing else ""
    return caller.tools.text(f"{unread.total} unread{which}[[: call @fetch_messages]]")
