"""Operations on the calling agent itself, for doors where it may not know who it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from mq9.errors import InvalidRequest, MailboxNotFound
from mq9.operations.caller import Caller, Identity
from mq9.operations.operation import Arguments, Operation, Result, unread_line


class NoArguments(Arguments):
    """No arguments: who asks is known."""


class WaitingMail(BaseModel):
    """What waits in the agent's own mailbox."""

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


def _self(caller: Caller) -> Identity:
    if caller.identity is None:
        raise InvalidRequest("agent: these tools belong to no agent")
    return caller.identity


async def _whoami(caller: Caller, _arguments: NoArguments) -> WhoamiResult:
    identity = _self(caller)
    address = identity.mail_address
    with caller.client.watch_unread(address, address) as watch, suppress(MailboxNotFound):
        await caller.client.mailbox_status(address)
    unread = watch.unread
    return WhoamiResult(
        name=identity.name,
        mail_address=address,
        unread=unread_line(unread, caller),
        waiting=(
            None
            if unread is None
            else WaitingMail(critical=unread.critical, urgent=unread.urgent, normal=unread.normal)
        ),
        may_read=identity.readable,
        may_send=identity.sendable,
        read_only=caller.read_only or None,
    )


class UnregisterResult(Result):
    """Result of agent_unregister."""

    name: str = Field(description="The agent that is no longer listed.")


async def _unregister(caller: Caller, _arguments: NoArguments) -> UnregisterResult:
    identity = _self(caller)
    # By its name alone: somebody else may be registered at its mailbox, too.
    await caller.client.agent_unregister(name=identity.name)
    return UnregisterResult(name=identity.name)


WHOAMI = Operation(
    name="whoami",
    title="Who am I",
    description="Tell your own name and mailbox, what waits there, and what you may read and send.",
    arguments=NoArguments,
    result=WhoamiResult,
    call=_whoami,
    read_only=True,
    idempotent=True,
)

AGENT_UNREGISTER = Operation(
    name="agent_unregister",
    title="Unregister this agent",
    description=(
        "Take yourself out of the list of agents[[ that @agent_discover searches]]. "
        "Your mailbox stays, and who knows its address can still write to it."
    ),
    arguments=NoArguments,
    result=UnregisterResult,
    call=_unregister,
    destructive=True,
    idempotent=True,
)
