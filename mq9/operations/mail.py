"""Operations on mailboxes: make one, look at what is stored in one, delete a message."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mq9 import address as addresses
from mq9.errors import (
    InvalidRequest,
    MailboxExists,
    MailboxNotFound,
    MessageNotFound,
)
from mq9.operations.caller import Caller
from mq9.operations.identity import address_in, agent_key, code
from mq9.operations.message_views import MessageView, unix_seconds, views
from mq9.operations.operation import (
    Arguments,
    Confirmation,
    Key,
    MailAddress,
    MaxChars,
    MsgId,
    OwnMailbox,
    Result,
    Seconds,
    Since,
    Tags,
    operation,
)
from mq9.protocol.checks import MAX_MSG_ID

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


class CreateMailboxResult(Result):
    """Result of create_mailbox."""

    mail_address: str
    expires_in_seconds: int | None = None


@operation(
    title="Create a mailbox",
    description=(
        "Make another mailbox, for example a private one for the replies to one task. "
        "Whoever knows its address can write to it."
    ),
)
async def create_mailbox(caller: Caller, arguments: CreateMailboxArguments) -> CreateMailboxResult:
    """Make a mailbox, with an address of its own where none is given."""
    identity = caller.identity
    name = _made_up(caller) if arguments.name is None else address_in("name", arguments.name)
    call = caller.idempotency_id
    desc = (call or "") if identity is None else identity.description(name, call)
    try:
        await caller.client.mailbox_create(name=name, ttl=arguments.ttl or 0, desc=desc)
    except MailboxExists:
        if call is None or (await caller.client.mailbox_status(name)).desc != desc:
            raise  # this call did not make it when it was made before
    if identity is not None:
        identity.made(name)
    return CreateMailboxResult(mail_address=name, expires_in_seconds=arguments.ttl or None)


def _made_up(caller: Caller) -> str:
    """Return an address that nobody can guess, the same when the call is made again."""
    identity = caller.identity
    fits = identity is not None and len(identity.mail_address) <= _LONGEST_PREFIX
    prefix = identity.mail_address if identity and fits else None
    if caller.idempotency_id is None:
        return caller.client.new_address(prefix)
    secret = code(agent_key(), "new mailbox", caller.idempotency_id)
    return secret if prefix is None else f"{prefix}.{secret}"


_SHOWN = 20  # messages, unless a limit is given


class QueryArguments(Arguments):
    """Arguments of query_messages."""

    mail_address: OwnMailbox = None
    key: Annotated[Key, Field(description="Only the message with this key.")] = None
    tags: Annotated[Tags, Field(description="Only messages with all of these tags.")] = None
    since: Since = None
    msg_id: Annotated[int | None, Field(ge=0, le=MAX_MSG_ID, description="Only this message.")] = (
        None
    )
    limit: Annotated[
        int | None, Field(ge=1, le=1_000, description="The newest so many; else 20.")
    ] = None
    max_chars: MaxChars = None


class QueryResult(Result):
    """Result of query_messages."""

    mail_address: str
    messages: list[MessageView] = Field(description="Oldest first.")
    more: str | None = Field(default=None, description="Why not all that match are here.")


_REST = "call @query_messages with msg_id={msg_id}, max_chars={chars}"


@operation(
    title="Look into a mailbox",
    description=(
        "Look at the stored messages of a mailbox, read ones included, without taking them: "
        "nothing is leased and nothing has to be acked."
        "[[ To work on messages use @fetch_messages.]]"
    ),
    read_only=True,
    idempotent=True,
)
async def query_messages(caller: Caller, arguments: QueryArguments) -> QueryResult:
    """Return stored messages without leasing them."""
    address = await caller.mailbox_to_read(arguments.mail_address)
    max_chars = arguments.max_chars or caller.max_chars
    limit = arguments.limit or _SHOWN
    since = None if arguments.since is None else unix_seconds("since", arguments.since)
    try:
        found = await caller.client.query(
            address,
            key=arguments.key,
            tags=arguments.tags,
            since=since,
            limit=limit,
            msg_id=arguments.msg_id,
            max_bytes=max_chars,
        )
    except MailboxNotFound:
        own = caller.identity is not None and address == caller.identity.mail_address
        if not (own and caller.read_only):
            raise
        return QueryResult(mail_address=address, messages=[])  # who may only look has made none
    more = None
    if found.more:
        wider = "raise limit" if len(found) == limit else "narrow it with key or tags"
        more = f"older ones match as well: {wider}"
    return QueryResult(
        mail_address=address,
        messages=views(found, max_chars, caller.tools.text(_REST)),
        more=more,
    )


class DeleteArguments(Arguments):
    """Arguments of delete_message."""

    mail_address: MailAddress
    msg_id: MsgId
    confirm_address: Annotated[
        str | None, Field(description="The mail_address once more, if you are asked for it.")
    ] = None


class DeleteResult(Result):
    """Result of delete_message."""

    mail_address: str
    deleted: int = Field(description="The msg_id of the removed message.")


async def _confirm_deletion(caller: Caller, arguments: DeleteArguments) -> Confirmation:
    msg_id = arguments.msg_id
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
        "Remove one message from a mailbox for everybody. A message you have merely dealt with "
        "is acked, not deleted."
    ),
    destructive=True,
    idempotent=True,
    confirmation=_confirm_deletion,
    leases=True,
)
async def delete_message(caller: Caller, arguments: DeleteArguments) -> DeleteResult:
    """Delete a message."""
    address = await caller.mailbox_to_read(arguments.mail_address)
    repeated = arguments.confirm_address
    if repeated is not None and address_in("confirm_address", repeated) != address:
        raise InvalidRequest(f"confirm_address: {addresses.shown(repeated)} is not {address}")
    try:
        await caller.client.delete(address, arguments.msg_id)
    except MessageNotFound:
        if caller.idempotency_id is None:
            raise
        status = await caller.client.mailbox_status(address, msg_id=arguments.msg_id)
        if status.message is None or status.message.state != "deleted":
            raise  # this call did not delete it when it was made before
    if caller.leases is not None:
        for one in caller.deliveries.find(arguments.msg_id):
            if one.mail_address == address:
                caller.leases.let_go({arguments.msg_id: one}, [arguments.msg_id])
    return DeleteResult(mail_address=address, deleted=arguments.msg_id)
