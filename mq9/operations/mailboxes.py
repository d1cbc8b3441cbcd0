"""The operation on mailboxes: a new address to be reached at."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mq9.errors import MailboxExists
from mq9.operations.arguments import Arguments, Seconds
from mq9.operations.caller import Caller
from mq9.operations.identity import address_in
from mq9.operations.operation import operation
from mq9.operations.ownership import agent_key, code
from mq9.operations.result import Result

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
