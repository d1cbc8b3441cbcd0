"""Operations on the calling agent itself: register, unregister, and who it is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from mq9.errors import Forbidden, InvalidRequest, MailboxNotFound
from mq9.models import MailboxStatus
from mq9.operations.caller import Caller
from mq9.operations.execution import unread_line
from mq9.operations.identity import Identity, slug
from mq9.operations.leases import is_of
from mq9.operations.mail import NOT_ENFORCED, readers_of
from mq9.operations.message_views import visible
from mq9.operations.operation import Arguments, NoArguments, OwnMailbox, Result, operation


class RegisterArguments(Arguments):
    """Arguments of agent_register."""

    capabilities: Annotated[
        str,
        Field(
            min_length=1,
            max_length=20_000,
            description="What you can do, in plain words; others search this.",
        ),
    ]
    name: Annotated[
        str | None,
        Field(max_length=128, description="Your name, if you have not been given one."),
    ] = None
    mail_address: OwnMailbox = None


class RegisterResult(Result):
    """Result of agent_register."""

    name: str
    mail_address: str = Field(description="Where others reach you.")


@operation(
    title="Register this agent",
    description=(
        "Make yourself known to other agents, with a mailbox they can write to. "
        "The mailbox is made if it is missing. Repeat it to change what you say of yourself."
    ),
    idempotent=True,
)
async def agent_register(caller: Caller, arguments: RegisterArguments) -> RegisterResult:
    """Register the calling agent, and make its mailbox."""
    identity = caller.identity
    name = _own_name(identity, arguments.name)
    if arguments.mail_address is not None:
        address = await caller.mailbox_to_read(arguments.mail_address)
    elif identity is not None:
        address = identity.mail_address
    else:
        address = slug(name)
    await caller.client.agent_register(
        {"name": name, "mailbox": address, "payload": arguments.capabilities},
        ttl=caller.registration_ttl,
    )
    return RegisterResult(name=name, mail_address=address)


def _own_name(identity: Identity | None, given: str | None) -> str:
    if identity is not None:
        if given not in {None, identity.name}:
            raise InvalidRequest(f"name: you are {identity.name}, not {given!r}; leave it out")
        return identity.name
    if given is None:
        raise InvalidRequest("name: say who you are")
    return given


class UnregisterResult(Result):
    """Result of agent_unregister."""

    name: str = Field(description="The agent that is no longer listed.")


@operation(
    title="Unregister this agent",
    description=(
        "Take yourself out of the list of agents[[ that @agent_discover searches]]. "
        "Your mailbox stays, and who knows its address can still write to it."
    ),
    destructive=True,
    idempotent=True,
)
async def agent_unregister(caller: Caller, _arguments: NoArguments) -> UnregisterResult:
    """Take the calling agent out of the registry."""
    identity = caller.require_identity()
    # By its name alone: somebody else may be registered at its mailbox, too.
    await caller.client.agent_unregister(name=identity.name)
    return UnregisterResult(name=identity.name)


class WaitingMail(BaseModel):
    """Mail that could be fetched now, by priority."""

    model_config = ConfigDict(frozen=True)

    critical: int
    urgent: int
    normal: int


class MailboxView(BaseModel):
    """A mailbox of the agent, and how its mail stands."""

    model_config = ConfigDict(frozen=True)

    mail_address: str
    waiting: int | None = Field(
        default=None, description="Could be fetched now; left out of a published mailbox."
    )
    stored: int | None = Field(default=None, description="Of a published mailbox.")
    held_by_you: int | None = None
    held_elsewhere: str | None = Field(default=None, description="By other sessions of yours.")
    acked: int | None = None
    delayed: int | None = None
    next_due_seconds: int | None = None
    expires_in_seconds: int | None = None
    untrusted_keys: list[str] | None = Field(default=None, description="Of the newest messages.")
    readable_by: list[str] | None = Field(default=None, description="Who else may look into it.")


class WhoamiResult(Result):
    """Result of whoami."""

    name: str
    mail_address: str = Field(description="Your mailbox: where others reach you.")
    waiting: Annotated[WaitingMail | None, WithJsonSchema({"type": "object"})] = Field(
        default=None, description="Mail not yet taken; left out while there is no mailbox."
    )
    mailboxes: Annotated[list[MailboxView], WithJsonSchema({"type": "array"})] = Field(
        description="Yours: your own, and those you made."
    )
    more: str | None = Field(default=None, description="Why not all mailboxes are listed.")
    not_enforced: str | None = Field(
        default=None, description="Why others can look into your mailboxes all the same."
    )
    may_read: str = Field(description="What you may read.")
    may_send: str = Field(description="Where you may send to.")
    read_only: bool | None = Field(default=None, description="True when you may only look.")


_MOST_LISTED = 20  # mailboxes, and keys of each
_KEYS_LOOKED_AT, _KEYS_BYTES = 100, 64 * 1024
_PAGE = 100


@operation(
    title="Who am I",
    description=(
        "Tell your own name and mailboxes, how their mail stands, and what you may read and send."
    ),
    read_only=True,
    idempotent=True,
)
async def whoami(caller: Caller, _arguments: NoArguments) -> WhoamiResult:
    """Return name, mailboxes and permissions of the calling agent."""
    identity = caller.require_identity()
    addresses, more = await _own_mailboxes(caller, identity)
    statuses = [await _status(caller, address) for address in addresses[:_MOST_LISTED]]
    found = [one for one in statuses if one is not None]
    own = next((one for one in found if one.mail_address == identity.mail_address), None)
    waiting = None if own is None or own.group is None else own.group.pending
    return WhoamiResult(
        name=identity.name,
        mail_address=identity.mail_address,
        your_unread=unread_line(waiting, caller),
        waiting=None
        if waiting is None
        else WaitingMail(critical=waiting.critical, urgent=waiting.urgent, normal=waiting.normal),
        mailboxes=[await _view(caller, one) for one in found],
        more=f"{len(addresses)} mailboxes, of which {_MOST_LISTED} are listed"
        if len(addresses) > _MOST_LISTED
        else more,
        not_enforced=NOT_ENFORCED if own is not None and not own.enforced else None,
        may_read=f"{identity.readable}, and look into what others publish to it",
        may_send=identity.sendable,
        read_only=caller.read_only or None,
    )


async def _own_mailboxes(caller: Caller, identity: Identity) -> tuple[list[str], str | None]:
    """Return the addresses of the agent's mailboxes, and why there may be others."""
    known = identity.known_addresses
    agent = await caller.client.whoami()
    try:
        listed = await caller.client.mailbox_list_own(
            desc_prefix=None if agent == identity.name else identity.made_by, limit=_PAGE
        )
    except (Forbidden, InvalidRequest):
        return known, "this broker lists no mailboxes; those you made since this program began"
    made = [
        one.mail_address
        for one in listed.mailboxes
        if one.creator == identity.name or identity.describes(one.desc, one.mail_address)
    ]
    for address in made:
        identity.made(address)
    more = f"more than {_PAGE} mailboxes" if listed.more else None
    return list(dict.fromkeys([*known, *made])), more


async def _status(caller: Caller, address: str) -> MailboxStatus | None:
    group = caller.group_to_use(None, address)
    try:
        return await caller.client.mailbox_status(address, group_name=group)
    except (Forbidden, MailboxNotFound):
        return None  # it has expired, or is another's now


async def _view(caller: Caller, status: MailboxStatus) -> MailboxView:
    now = caller.client.clock.now_ms() / 1000
    group = status.group
    leased = () if group is None else group.leased
    mine = [one for one in leased if one.consumer and is_of(one.consumer, caller.consumer)]
    others = [
        one
        for one in leased
        if one not in mine and one.consumer and one.consumer.startswith(caller.sessions)
    ]
    elsewhere = None
    if others:
        seconds = max(1, round(min(one.until for one in others) - now))
        elsewhere = f"{sum(one.count for one in others)}, the first for {seconds} s more"
    published_to = readers_of(status) or None
    return MailboxView(
        mail_address=status.mail_address,
        waiting=None if published_to else 0 if group is None else group.pending.total,
        stored=status.stored if published_to else None,
        held_by_you=sum(one.count for one in mine) or None,
        held_elsewhere=elsewhere,
        acked=None if group is None else group.acked or None,
        delayed=status.delayed or None,
        next_due_seconds=None if status.next_due is None else max(0, round(status.next_due - now)),
        expires_in_seconds=None
        if status.expires_at is None
        else max(0, round(status.expires_at - now)),
        untrusted_keys=await _keys(caller, status) or None,
        readable_by=published_to,
    )


async def _keys(caller: Caller, status: MailboxStatus) -> list[str]:
    """Return keys in a mailbox, those of the newest messages first."""
    if not status.stored:
        return []
    newest = await caller.client.query(
        status.mail_address, limit=_KEYS_LOOKED_AT, max_bytes=_KEYS_BYTES
    )
    keys = [visible(one.key) for one in reversed(newest) if one.key is not None]
    return keys[:_MOST_LISTED]
