"""The operation that sends a message, or answers one and acknowledges it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from mq9 import address as addresses
from mq9.client.error_answers import answer_id
from mq9.errors import (
    IdConflict,
    InvalidAddress,
    InvalidRequest,
    MailboxNotFound,
    MessageNotFound,
    Mq9Error,
    PayloadTooLarge,
)
from mq9.models import Priority
from mq9.operations.acks import confirm, deliveries_of
from mq9.operations.caller import Caller
from mq9.operations.discovery import is_stale, look_up, named, nearest
from mq9.operations.identity import agent_key, code
from mq9.operations.leases import FetchedFrom
from mq9.operations.operation import Arguments, Key, Number, Result, Seconds, Tags, operation

_logger = logging.getLogger("mq9.operations")

_MOST_CONTENT = 1024 * 1024
_ID_CHARS = 12  # of 5 random bits each


class SendArguments(Arguments):
    """Arguments of send_message."""

    FORMER: ClassVar[Mapping[str, str]] = {"mail_address": "to"}

    to: Annotated[
        str | None,
        Field(description="Mailbox address, or the name of a registered agent."),
    ] = None
    content: Annotated[
        str, Field(max_length=_MOST_CONTENT, description="The message, complete in itself.")
    ]
    reply_to_msg: Annotated[
        Number | None,
        Field(description="Instead of to: msg_id of a message you hold; answers and acks it."),
    ] = None
    priority: Annotated[
        Literal["normal", "urgent", "critical"] | None,
        Field(description="Critical is read before urgent, urgent before normal, the default."),
    ] = None
    key: Annotated[
        Key,
        Field(description="The mailbox keeps only the latest message with this key: a state."),
    ] = None
    delay: Annotated[Seconds, Field(description="Seconds until it can be read.")] = None
    ttl: Annotated[
        Seconds,
        Field(description="Seconds until it is removed, read or not; more than delay; 0: never."),
    ] = None
    tags: Annotated[Tags, Field(description="Words to find it by, without commas.")] = None
    reply_to: Annotated[str | None, Field(description="Mailbox for the answer; else your own.")] = (
        None
    )
    correlation_id: Annotated[
        str | None,
        Field(max_length=256, description="In an answer, that of the question; else made up."),
    ] = None


class ReaderView(BaseModel):
    """The agent at the mailbox that a message was sent to."""

    model_config = ConfigDict(frozen=True)

    registered: bool = Field(description="Whether an agent is registered there.")
    stale: bool | None = Field(
        default=None, description="True when it has not been seen for an hour: it may have stopped."
    )


class SendResult(Result):
    """Result of send_message."""

    mail_address: str
    msg_id: int | None = Field(default=None, description="Left out while the message is delayed.")
    delayed_id: int | None = Field(
        default=None, description="Of a delayed message: delete_message takes it back by this."
    )
    correlation_id: str | None = Field(default=None, description="An answer will repeat it.")
    readable_in_seconds: int | None = None
    replaced: int | None = Field(
        default=None, description="The msg_id of the message whose key this one took."
    )
    reader: Annotated[ReaderView | None, WithJsonSchema({"type": "object"})] = Field(
        default=None, description="Who reads there, as far as the registry tells."
    )
    acked: int | None = Field(default=None, description="The msg_id that this answers.")
    not_acked: str | None = Field(default=None, description="Why it was sent and not acked.")


def _is_answer(arguments: SendArguments) -> bool:
    return arguments.reply_to_msg is not None


@operation(
    title="Send a message",
    description=(
        "Send a message to a mailbox. It is stored until its reader fetches it, even if that agent "
        "is offline now. To answer a message that you hold, name it in reply_to_msg."
    ),
    open_world=True,
    leases=_is_answer,
)
async def send_message(caller: Caller, arguments: SendArguments) -> SendResult:
    """Send a message to a mailbox, named by address, agent or the answered message."""
    if arguments.reply_to_msg is not None:
        return await _answer(caller, arguments, arguments.reply_to_msg)
    if arguments.to is None:
        raise InvalidRequest("to: say where to send, or name in reply_to_msg what you answer")
    return await _send(caller, arguments.to, arguments)


async def _answer(caller: Caller, arguments: SendArguments, msg_id: int) -> SendResult:
    """Send the answer to a message that the caller holds, once, and acknowledge the message."""
    found = await deliveries_of(caller, [msg_id])
    delivery = found[msg_id]
    question = await caller.client.query(delivery.mail_address, msg_id=msg_id)
    if not question:
        raise MessageNotFound(
            f"reply_to_msg: {msg_id} is no longer stored in {delivery.mail_address}; say in to "
            "where the answer goes"
        )
    to = arguments.to or question[0].reply_to
    if to is None:
        raise InvalidRequest(
            f"reply_to_msg: message {msg_id} names no mailbox for an answer; say in to where it "
            "goes, or only ack the message"
        )
    correlation_id = arguments.correlation_id
    if correlation_id is None and not caller.conversations.is_answer(question[0]):
        correlation_id = question[0].correlation_id
    answering = arguments.model_copy(update={"correlation_id": correlation_id})
    answer = replace(question[0], group_name=delivery.group_name)
    result = await _send(caller, to, answering, answer_id(answer))
    return result.model_copy(update=await _acked(caller, found, msg_id))


async def _acked(
    caller: Caller, found: dict[int, FetchedFrom], msg_id: int
) -> dict[str, int | str]:
    try:
        confirmed = await confirm(caller, found)
    except MessageNotFound as error:
        return {"not_acked": str(error)}
    if confirmed.lost:
        return {"not_acked": confirmed.lost[msg_id]}
    return {"acked": msg_id}


async def _send(
    caller: Caller, to: str, arguments: SendArguments, id_: str | None = None
) -> SendResult:
    reply_to = None if caller.identity is None else caller.identity.mail_address
    if arguments.reply_to is not None:
        reply_to = await caller.mailbox_to_send(arguments.reply_to, "reply_to")
    elif caller.private is not None:
        reply_to = await caller.private.ensure(caller.client)
    address = await _recipient(caller, to)
    try:
        return await _send_to(caller, address, arguments, reply_to, id_)
    except MailboxNotFound as error:
        # An address may also be a name.
        found = await named(caller.client, to)
        if found in {None, address}:
            close = await nearest(caller.client, to)
            raise MailboxNotFound(f"{error}{close}") from None
    address = await caller.mailbox_to_send(str(found))
    return await _send_to(caller, address, arguments, reply_to, id_)


async def _send_to(
    caller: Caller, address: str, arguments: SendArguments, reply_to: str | None, id_: str | None
) -> SendResult:
    given = arguments.correlation_id
    correlation_id = given or _made_up(caller, id_ or caller.idempotency_id)
    trace = caller.trace_to(address, given, correlation_id)
    try:
        outcome = await caller.client.send_detailed(
            address,
            arguments.content,
            priority=Priority(arguments.priority or Priority.NORMAL),
            key=arguments.key,
            delay=arguments.delay,
            ttl=arguments.ttl or None,
            tags=arguments.tags,
            id=id_ or caller.idempotency_id,
            sender=None if caller.identity is None else caller.identity.name,
            reply_to=reply_to,
            correlation_id=correlation_id,
            path=trace.path,
            headers=trace.headers,
        )
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"content: {error}") from None
    except IdConflict:
        by = "this call has" if id_ is None else "an answer to this message has been"
        raise IdConflict(f"content: {by} sent {address} another text, which stands") from None
    is_answer = id_ is not None or caller.conversations.may_answer(address)
    caller.conversations.sent(address, correlation_id, made_up=given is None)
    is_delayed = outcome.msg_id < 0
    return SendResult(
        mail_address=address,
        msg_id=None if is_delayed else outcome.msg_id,
        delayed_id=outcome.delayed_id,
        correlation_id=correlation_id,
        readable_in_seconds=arguments.delay if is_delayed else None,
        replaced=outcome.replaced,
        reader=None if is_answer else await _reader(caller, address),
    )


async def _reader(caller: Caller, address: str) -> ReaderView | None:
    """Return the registered reader of a mailbox; None if the registry does not answer."""
    try:
        found = await look_up(caller.client, mailboxes=[address])
    except Mq9Error as error:  # the message is sent all the same
        _logger.info("who reads %s was not looked up: %s", address, error)
        return None
    if found is None:
        return None
    if not found:
        return ReaderView(registered=False)
    now = caller.client.clock.now_ms() // 1000
    return ReaderView(
        registered=True, stale=all(is_stale(one.last_seen, now) for one in found) or None
    )


def _made_up(caller: Caller, id_: str | None) -> str | None:
    """Return a correlation id, the same for a repeated send with an idempotency id."""
    if caller.identity is None:
        return None
    if id_ is not None:
        return code(agent_key(), "correlation", id_)[:_ID_CHARS]
    return caller.client.new_address()[:_ID_CHARS]


async def _recipient(caller: Caller, given: str) -> str:
    """Return the mailbox that an address, or the name of a registered agent, stands for."""
    try:
        return await caller.mailbox_to_send(given, "to")
    except InvalidAddress:
        found = await named(caller.client, given)
        if found is None:
            raise InvalidAddress(
                f"to: {addresses.shown(given)} is not an address, and no agent has this name"
                f"{await nearest(caller.client, given)}"
            ) from None
    return await caller.mailbox_to_send(found)
