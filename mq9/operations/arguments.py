"""Argument types that several operations share, described for a model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mq9.operations.caller import MOST_CHARS
from mq9.protocol.checks import (
    HEADER_VALUE_LENGTH,
    MAX_MSG_ID,
    MAX_SECONDS,
    MAX_TAGS,
)

MailAddress = Annotated[str, Field(description="Mailbox address, such as agent.translator.")]
OwnMailbox = Annotated[str | None, Field(description="Mailbox to use; else your own.")]
Group = Annotated[
    str | None,
    Field(
        max_length=HEADER_VALUE_LENGTH,
        description="Consumer group, if you share the work with others.",
    ),
]
Number = Annotated[int, Field(ge=0, le=MAX_MSG_ID)]
MsgId = Annotated[Number, Field(description="msg_id from a result.")]
MaxChars = Annotated[
    int | None,
    Field(ge=100, le=MOST_CHARS, description="How much text at the most, in characters."),
]
Seconds = Annotated[int | None, Field(ge=0, le=MAX_SECONDS)]
Tags = Annotated[list[str] | None, Field(max_length=MAX_TAGS)]
Key = Annotated[str | None, Field(max_length=HEADER_VALUE_LENGTH)]
Since = Annotated[
    str | None, Field(description="Only messages from this time on, such as 2026-11-21T07:09:00Z.")
]
