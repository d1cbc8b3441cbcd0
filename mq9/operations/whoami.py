"""The operation that tells the calling agent its own name, mailbox and permissions."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from mq9.errors import MailboxNotFound
from mq9.operations.arguments import NoArguments
from mq9.operations.caller import Caller
from mq9.operations.execution import unread_line
from mq9.operations.operation import operation
from mq9.operations.result import Result


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
