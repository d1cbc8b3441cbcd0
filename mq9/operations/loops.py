"""Messages whose conversation goes in a circle or too far, moved out of a result."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from mq9.errors import MailboxNotFound, Mq9Error
from mq9.models import Message
from mq9.operations.caller import Caller
from mq9.operations.conversations import is_return, reason_to_stop
from mq9.operations.identity import Identity
from mq9.operations.message_views import visible

_logger = logging.getLogger("mq9.operations")

_SUFFIX = ".dead"
_LONGEST_ADDRESS = 128
_AGAIN_S = 600.0  # until what could not be moved is tried again
_MOST_REASONS = 3


class StoppedView(BaseModel):
    """Messages that were moved away, since their conversation went in a circle or too far."""

    model_config = ConfigDict(frozen=True)

    msg_ids: list[int]
    moved_to: str = Field(description="Where they are kept.")
    untrusted_reasons: list[str] = Field(description="Why, with the agents they passed through.")


async def stop_loops(
    caller: Caller, messages: Sequence[Message], *, are_answers: bool
) -> tuple[list[Message], StoppedView | None]:
    """Move messages that loop out of a result, and remember the paths of the others."""
    identity = caller.identity
    if identity is None:
        return list(messages), None
    conversations = caller.conversations
    beginning = identity.mail_address[: _LONGEST_ADDRESS - len(_SUFFIX)].rstrip(".")
    dead_letter = conversations.dead_letter or f"{beginning}{_SUFFIX}"
    kept, moved, reasons = [], [], []
    now_ms = caller.client.clock.monotonic_ms()
    for message in messages:
        is_answer = are_answers or conversations.is_answer(message)
        reason = reason_to_stop(
            message.path, identity.name, max_hops=conversations.max_hops, is_answer=is_answer
        )
        if reason is None or message.mail_address == dead_letter:
            is_answer = is_answer or is_return(message.path, identity.name)
            conversations.taken(caller.consumer, message, is_answer=is_answer, now_ms=now_ms)
            kept.append(message)
        elif await _move(caller, identity, message, dead_letter, reason):
            moved.append(message.msg_id)
            reasons.append(visible(reason))
    if not moved:
        return kept, None
    return kept, StoppedView(
        msg_ids=moved, moved_to=dead_letter, untrusted_reasons=reasons[:_MOST_REASONS]
    )


async def _move(
    caller: Caller, identity: Identity, message: Message, dead_letter: str, reason: str
) -> bool:
    """Move a message, or else give it back for a while; return whether it was moved."""
    try:
        try:
            await message.move(dead_letter, reason=reason)
        except MailboxNotFound:
            description = identity.description(dead_letter)
            await caller.client.mailbox_create(name=dead_letter, desc=description, renew=True)
            await message.move(dead_letter, reason=reason)
    except Mq9Error as error:
        _logger.warning(
            "message %d of %s is stopped (%s) and cannot be moved to %s: %s",
            message.msg_id,
            message.mail_address,
            *(reason, dead_letter, error),
        )
        await message.nack(delay=_AGAIN_S)
        return False
    _logger.warning(
        "message %d of %s was moved to %s: %s",
        message.msg_id,
        message.mail_address,
        *(dead_letter, reason),
    )
    return True
