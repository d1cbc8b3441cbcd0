"""Operations on the calling agent itself: register, unregister, and who it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from mq9.errors import InvalidRequest, MailboxNotFound
from mq9.operations.caller import Caller
from mq9.operations.execution import unread_line
from mq9.operations.identity import Identity, slug
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
    """Mail that waits in the agent's own mailbox."""

    model_config = ConfigDict(frozen=True)

    critical: int
    urgent: int
    normal: int


class WhoamiResult(Result):
    """Result of whoami."""

    name: str
    mail_address: str = Field(description="Your mailbox: where others reach you.")
    waiting: Annotated[WaitingMail | None, WithJsonSchema({"type": "object"})] = Field(
        default=None, description="Mail not yet taken; left out while there is no mailbox."
    )
    may_read: str = Field(description="What you may read.")
    may_send: str = Field(description="Where you may send to.")
    read_only: bool | None = Field(default=None, description="True when you may only look.")


@operation(
    title="Who am I",
    description="Tell your own name and mailbox, what waits there, and what you may read and send.",
    read_only=True,
    idempotent=True,
)
async def whoami(caller: Caller, _arguments: NoArguments) -> WhoamiResult:
    """Return name, mailbox and permissions of the calling agent."""
    identity = caller.require_identity()
    address = identity.mail_address
    with caller.client.watch_unread(address, address) as watch, suppress(MailboxNotFound):
        await caller.client.mailbox_status(address)
    unread = watch.unread
    return WhoamiResult(
        name=identity.name,
        mail_address=address,
        your_unread=unread_line(unread, caller),
        waiting=(
            None
            if unread is None
            else WaitingMail(critical=unread.critical, urgent=unread.urgent, normal=unread.normal)
        ),
        may_read=identity.readable,
        may_send=identity.sendable,
        read_only=caller.read_only or None,
    )
