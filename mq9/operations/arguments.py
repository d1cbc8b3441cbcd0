"""The arguments that a model gives an operation: their base class, and types that several share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mq9.operations.limits import HIGHEST_MAX_CHARS
from mq9.protocol import checks

MailAddress = Annotated[str, Field(description="Mailbox address, such as agent.translator.")]
OwnMailbox = Annotated[str | None, Field(description="Mailbox to use; else your own.")]
Group = Annotated[
    str | None,
    Field(
        max_length=checks.HEADER_VALUE_LENGTH,
        description="Consumer group, if you share the work with others.",
    ),
]
Number = Annotated[int, Field(ge=0, le=checks.MAX_MSG_ID)]
MsgId = Annotated[Number, Field(description="msg_id from a result.")]
MaxChars = Annotated[
    int | None,
    Field(ge=100, le=HIGHEST_MAX_CHARS, description="How much text at the most, in characters."),
]
Seconds = Annotated[int | None, Field(ge=0, le=checks.MAX_SECONDS)]
Tags = Annotated[list[str] | None, Field(max_length=checks.MAX_TAGS)]
Key = Annotated[str | None, Field(max_length=checks.HEADER_VALUE_LENGTH)]
Since = Annotated[
    str | None, Field(description="Only messages from this time on, such as 2026-11-21T07:09:00Z.")
]


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
        defer_build=True,  # of most in a program, only some are used
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

    @property
    def longest_wait_s(self) -> int:
        """For how many seconds the operation may wait for something to happen."""
        return 0


class NoArguments(Arguments):
    """Arguments of an operation that takes none."""
