"""What an operation is, and how one is performed for a model."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mq9.errors import (
    AgentNotFound,
    Forbidden,
    IdConflict,
    InvalidAddress,
    InvalidRequest,
    LimitReached,
    MailboxExists,
    MailboxFull,
    MailboxNotFound,
    MessageNotFound,
    Mq9Error,
    NotConnected,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
)
from mq9.models import Unread
from mq9.operations.caller import Caller
from mq9.operations.tool_names import ToolNames
from mq9.protocol import checks

_logger = logging.getLogger("mq9.operations")


class Arguments(BaseModel):
    """What a model may say: exactly the arguments of the operation, of exactly their types.

    Null and the empty text stand for an argument that is left out, where it may be: all that are
    not required have the type of what may be null, and no other default, so that a host that makes
    models name every argument leaves them a way not to. The schema allows arguments that do not
    exist, since some hosts refuse to work without; they are refused here.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra=lambda schema: schema.pop("additionalProperties", None),
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_is_empty(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {
            name: value
            for name, value in given.items()
            if not (name in optional and checks.is_absent(value))
        }


class Result(BaseModel):
    """What a model is told."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True)

    unread: str | None = Field(
        default=None, description="What waits in your own mailbox, if anything."
    )

    def content(self) -> str:
        """Return the result as compact JSON, without what does not apply."""
        return orjson.dumps(self.model_dump(mode="json", exclude_none=True)).decode()


A = TypeVar("A", bound=Arguments)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Operation(Generic[A, R]):
    """One thing that a model can do.

    Attributes:
        name: Its name; a door may put a prefix before it.
        title: Its name for people.
        description: What it does and when to use it, for the model; see ``ToolNames``.
        arguments: The model of its arguments.
        result: The model of its result.
        call: Does it.
        read_only: Whether it changes nothing.
        destructive: Whether it may remove something.
        idempotent: Whether repeating it changes nothing more.
        open_world: Whether it tells something to others, who may be anybody.
    """

    name: str
    title: str
    description: str
    arguments: type[A]
    result: type[R]
    call: Callable[[Caller, A], Awaitable[R]]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False

    def check_allowed(self, caller: Caller) -> None:
        """See whether a caller may perform this.

        Raises:
            Forbidden: It may not.
        """
        if (caller.read_only and not self.read_only) or self.name not in caller.tools:
            raise Forbidden("this is switched off here")


class OperationError(Exception):
    """An operation failed; the text is for the model and says what to do next.

    Attributes:
        code: The stable word of the error.
    """

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


# The first class that the error belongs to decides. The texts are for ``ToolNames``.
_ADVICE: tuple[tuple[type[Mq9Error], str], ...] = (
    (InvalidAddress, "Correct the address and call again[[; @agent_discover lists addresses]]."),
    (InvalidRequest, "Correct that argument and call again."),
    (
        MailboxNotFound,
        "Check the address[[ with @agent_discover]]; who never ran has no mailbox yet.",
    ),
    (MessageNotFound, "Use a msg_id that a result gave you."),
    (MailboxExists, "Use it as it is, or choose another name."),
    (
        AgentNotFound,
        "[[See @agent_discover for who is registered.|Tell the user if that is unexpected.]]",
    ),
    (PayloadTooLarge, "Send less at once, or say where the rest can be found."),
    (MailboxFull, "Its reader has fallen behind; try again later or write to another agent."),
    (LimitReached, "Try again later."),
    (IdConflict, "Use another id."),
    (Unauthorized, "Tell the user: the credentials of this connection are wrong."),
    (Forbidden, "This is not allowed to you; go on without it or tell the user."),
    (NotConnected, "Tell the user: the connection to the broker is closed."),
    (Unavailable, "It may have happened all the same; repeat it only if twice does no harm."),
)
_REPEAT = "Call again; twice does no harm."
_OTHERWISE = "Tell the user if it happens again."


def explained(error: Mq9Error, operation: Operation[Any, Any], tools: ToolNames) -> OperationError:
    """Return an error of the broker or client as one that tells a model what to do next."""
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), _OTHERWISE)
    if isinstance(error, Unavailable) and operation.idempotent:
        advice = _REPEAT
    return OperationError(f"{error}. {tools.text(advice)}", error.code)


def unreachable(error: Exception) -> OperationError:
    """Return, for a model, why there is no connection to a broker."""
    code = error.code if isinstance(error, Mq9Error) else "error"
    return OperationError(f"no connection to the broker: {error}. Tell the user.", code)


async def perform(operation: Operation[Any, R], caller: Caller, arguments: Arguments) -> R:
    """Perform an operation for a caller.

    Returns:
        The result, with a line on unread mail where the caller is an agent that has some.

    Raises:
        OperationError: It failed, whatever the reason.
    """
    try:
        operation.check_allowed(caller)
        if caller.identity is None:
            return await operation.call(caller, arguments)
        await caller.ensure_mailbox()
        address = caller.identity.mail_address
        with caller.client.watch_unread(address, address) as watch:
            result: R = await operation.call(caller, arguments)
        line = unread_line(watch.unread, caller)
        return result if line is None else result.model_copy(update={"unread": line})
    except Mq9Error as error:
        if isinstance(error, MailboxNotFound) and caller.identity is not None:
            caller.identity.has_mailbox = False  # if it was its own, the next call makes it again
        raise explained(error, operation, caller.tools) from error
    except Exception as error:
        # A model's run must go on; the program's log has the rest.
        _logger.exception("%s failed unexpectedly", operation.name)
        name = caller.tools.text(f"@{operation.name}")
        raise OperationError(f"{name} failed: {error}. {_OTHERWISE}", "error") from error


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
