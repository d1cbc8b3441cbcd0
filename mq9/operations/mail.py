"""Operations on mailboxes: make one, delete a message, take back a delayed one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict

from pydantic import Field

from mq9 import address as addresses
from mq9.errors import Forbidden, InvalidRequest, MailboxExists, MessageNotFound
from mq9.models import LookPolicy, MailboxStatus, SendPolicy
from mq9.operations.caller import Caller
from mq9.operations.identity import address_in, agent_key, code
from mq9.operations.operation import (
    Arguments,
    Confirmation,
    MailAddress,
    Number,
    Result,
    Seconds,
    operation,
)
from mq9.protocol import checks

EVERYBODY = "everybody"
_ME = "me"
NOT_ENFORCED = (
    "this broker does not know who asks: all who know the address can look, take and write"
)
_LONGEST_PREFIX = 90  # an address made of a longer one would be too long


class CreateMailboxArguments(Arguments):
    """Arguments of create_mailbox."""

    name: Annotated[
        str | None,
        Field(description="Address to have: a-z, 0-9 and dots; else a private one is made up."),
    ] = None
    ttl: Annotated[
        Seconds, Field(description="Seconds until it is removed with its mail; 0 or null: never.")
    ] = None
    readable_by: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]] | None,
        Field(
            max_length=64,
            description="Agents that may look into it, or [everybody]; only you can write then.",
        ),
    ] = None


class CreateMailboxResult(Result):
    """Result of create_mailbox."""

    mail_address: str
    expires_in_seconds: int | None = None
    readable_by: list[str] = Field(description="Who may look into it beside you.")
    writable_by: str = Field(description="Who may send to it.")
    not_enforced: str | None = Field(
        default=None, description="Why others can look into it all the same."
    )


@operation(
    title="Create a mailbox",
    description=(
        "Make another mailbox: a private one for the replies to one task, to which all can write "
        "who know its address; or one that others may look into, to publish a state: send it there "
        "with a key."
    ),
)
async def create_mailbox(caller: Caller, arguments: CreateMailboxArguments) -> CreateMailboxResult:
    """Make a mailbox, with an address of its own where none is given."""
    identity = caller.identity
    name = _made_up(caller) if arguments.name is None else address_in("name", arguments.name)
    call = caller.idempotency_id
    desc = (call or "") if identity is None else identity.description(name, call)
    published = _published(arguments.readable_by)
    try:
        await caller.client.mailbox_create(
            name=name, ttl=arguments.ttl or 0, desc=desc, **published
        )
    except MailboxExists:
        if call is None or (await caller.client.mailbox_status(name)).desc != desc:
            raise  # this call did not make it when it was made before
    if identity is not None:
        identity.made(name)
    status = await caller.client.mailbox_status(name)
    return CreateMailboxResult(
        mail_address=name,
        expires_in_seconds=arguments.ttl or None,
        readable_by=readers_of(status),
        writable_by="all who know its address"
        if status.send_policy is SendPolicy.EVERYONE
        else "only you",
        not_enforced=None if status.enforced else NOT_ENFORCED,
    )


class _Published(TypedDict, total=False):
    """The options of a mailbox that others may look into."""

    look_policy: LookPolicy
    viewers: Sequence[str]
    send_policy: SendPolicy


def _published(readable_by: Sequence[str] | None) -> _Published:
    names = [one for one in dict.fromkeys(readable_by or ()) if one != _ME]
    for name in names:
        checks.agent_name("readable_by", name)
    if not names:
        return {}
    if EVERYBODY not in names:
        return {"viewers": names, "send_policy": SendPolicy.CREATOR}
    if len(names) > 1:
        raise InvalidRequest(f"readable_by: {EVERYBODY} includes all agents; leave the others out")
    return {"look_policy": LookPolicy.EVERYONE, "send_policy": SendPolicy.CREATOR}


def readers_of(status: MailboxStatus) -> list[str]:
    """Return who may look into a mailbox in addition to its owner."""
    if status.look_policy is LookPolicy.EVERYONE:
        return [EVERYBODY]
    return [*(status.readers or ()), *(status.viewers or ())]


def _made_up(caller: Caller) -> str:
    """Return a secret address, the same for a repeated call."""
    identity = caller.identity
    fits = identity is not None and len(identity.mail_address) <= _LONGEST_PREFIX
    prefix = identity.mail_address if identity and fits else None
    if caller.idempotency_id is None:
        return caller.client.new_address(prefix)
    secret = code(agent_key(), "new mailbox", caller.idempotency_id)
    return secret if prefix is None else f"{prefix}.{secret}"


class DeleteArguments(Arguments):
    """Arguments of delete_message."""

    mail_address: MailAddress
    msg_id: Annotated[Number | None, Field(description="msg_id from a result.")] = None
    delayed_id: Annotated[
        Number | None, Field(description="Instead: that of a delayed message of yours.")
    ] = None
    confirm_address: Annotated[
        str | None, Field(description="The mail_address once more, if you are asked for it.")
    ] = None


class DeleteResult(Result):
    """Result of delete_message."""

    mail_address: str
    deleted: int | None = Field(default=None, description="The msg_id of the removed message.")
    taken_back: int | None = Field(
        default=None, description="The delayed_id of the message that nobody will get."
    )


async def _confirm_deletion(caller: Caller, arguments: DeleteArguments) -> Confirmation | None:
    msg_id = _one_of(arguments)
    if msg_id is None:
        return None  # unknown
    address = await caller.mailbox_to_read(arguments.mail_address)
    if not await caller.client.query(address, msg_id=msg_id, max_bytes=1):
        raise MessageNotFound(f"message not found: {msg_id} is not in {address}")
    return Confirmation(
        question=f"Delete message {msg_id} of {address} for everybody? It cannot be undone.",
        declined="The user said no: nothing is deleted. Do not try again.",
        unanswered=None
        if arguments.confirm_address is not None
        else (
            "confirm_address: deleting cannot be undone, and the user gave no answer. If it "
            f"is what the user wants, call again with confirm_address={address!r} as well."
        ),
    )


@operation(
    title="Delete a message",
    description=(
        "Remove one message from a mailbox for everybody, or take back a delayed one that you "
        "sent. A message you have merely dealt with is acked, not deleted."
    ),
    destructive=True,
    idempotent=True,
    confirmation=_confirm_deletion,
    leases=True,
)
async def delete_message(caller: Caller, arguments: DeleteArguments) -> DeleteResult:
    """Delete a message, or take back a delayed one."""
    msg_id = _one_of(arguments)
    if msg_id is None:
        return await _take_back(caller, arguments)
    address = await caller.mailbox_to_read(arguments.mail_address)
    repeated = arguments.confirm_address
    if repeated is not None and address_in("confirm_address", repeated) != address:
        raise InvalidRequest(f"confirm_address: {addresses.shown(repeated)} is not {address}")
    try:
        await caller.client.delete(address, msg_id)
    except MessageNotFound:
        if caller.idempotency_id is None:
            raise
        status = await caller.client.mailbox_status(address, msg_id=msg_id)
        if status.message is None or status.message.state != "deleted":
            raise  # this call did not delete it when it was made before
    if caller.leases is not None:
        for one in caller.deliveries.find(msg_id):
            if one.mail_address == address:
                caller.leases.let_go({msg_id: one}, [msg_id])
    return DeleteResult(mail_address=address, deleted=msg_id)


def _one_of(arguments: DeleteArguments) -> int | None:
    """Return the msg_id; None where a delayed message is named instead."""
    if (arguments.msg_id is None) == (arguments.delayed_id is None):
        raise InvalidRequest("msg_id: name one message, by its msg_id or its delayed_id")
    return arguments.msg_id


async def _take_back(caller: Caller, arguments: DeleteArguments) -> DeleteResult:
    """Remove a delayed message that the agent sent, or that waits for a mailbox of its own."""
    delayed_id = arguments.delayed_id
    assert delayed_id is not None  # noqa: S101  # _one_of has checked it
    address = address_in("mail_address", arguments.mail_address)
    sender = None
    try:
        await caller.mailbox_to_read(address)
    except Forbidden:
        sender = caller.require_identity().name
    await caller.client.cancel(address, delayed_id, sender=sender)
    return DeleteResult(mail_address=address, taken_back=delayed_id)
