"""Outcomes of commands, as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mq9 import errors
from mq9.engine.codec.frame import frame, unframe
from mq9.engine.codec.records import Field, Kinds, Record, optional
from mq9.engine.codec.shapes import (
    FLAG,
    JSON_OBJECT,
    NUMBER,
    RAW,
    SCALAR,
    TEXT,
    TEXTS,
    WHOLE,
    WHOLES,
    Misfit,
    one_of,
    pair_of,
    tuple_of,
)
from mq9.engine.commands import Claimed, Outcome
from mq9.errors import Mq9Error
from mq9.models import Extended, Leased, MailboxType, Priority, SendPolicy, Waiting
from mq9.protocol.outcomes import Created, Fetched, Grants, MoveOutcome, Stored

STORED = Record(
    Stored,
    Field("msg_id", WHOLE),
    Field("payload", RAW),
    Field("priority", one_of(Priority)),
    Field("create_time", WHOLE),
    Field("delivery_count", WHOLE, 0),
    optional("envelope", JSON_OBJECT),
    Field("deaths", WHOLE, 0),
)
LEASED = Record(Leased, optional("consumer", TEXT), Field("count", WHOLE), Field("until", NUMBER))
WAITING = Record(
    Waiting,
    Field("stored", WHOLE),
    Field("delayed", WHOLE),
    optional("next_due", NUMBER),
    Field("leased", tuple_of(LEASED), ()),
    Field("acked", WHOLE, 0),
    Field("skipped", WHOLE, 0),
    Field("moved", WHOLE, 0),
)

# Of what a command may come to, beside whole numbers, texts and tuples of them, its name, which is
# never given to anything else, and its fields.
VALUES: Mapping[str, Record] = {
    "created": Record(
        Created,
        Field("mail_address", TEXT),
        Field("generation", TEXT),
        optional("type", one_of(MailboxType)),
        optional("send_policy", one_of(SendPolicy)),
        Field("enforced", FLAG, True),
    ),
    "grants": Record(
        Grants,
        Field("readers", TEXTS, ()),
        Field("viewers", TEXTS, ()),
        Field("senders", TEXTS, ()),
        Field("send_policy", one_of(SendPolicy), SendPolicy.EVERYONE),
        Field("enforced", FLAG, True),
    ),
    "fetched": Record(
        Fetched,
        Field("mail_address", TEXT),
        Field("generation", TEXT),
        Field("messages", tuple_of(STORED), ()),
        optional("batch", TEXT),
        optional("lease_until", NUMBER),
        Field("more", FLAG, False),
        optional("waiting", WAITING),
        Field("position", WHOLE, 0),
        optional("cursors", WHOLES),
        optional("next_change_ms", WHOLE),
        optional("next_delivery_ms", WHOLE),
        Field("refetched", FLAG, False),
        Field("copy", WHOLE, 1),
    ),
    "moved": Record(MoveOutcome, optional("msg_id", WHOLE), Field("is_dead_letter", FLAG, False)),
    "extended": Record(Extended, Field("extended", WHOLES, ()), Field("lost", WHOLES, ())),
    "claimed": Record(
        Claimed,
        Field("mailboxes", TEXTS),
        Field("removed", TEXTS),
        Field("closed", WHOLE),
        Field("first_closed", TEXTS),
    ),
}

# What a command may be refused with, by its code, which never changes.
ERRORS: Mapping[str, type[Mq9Error]] = {
    error.code: error
    for error in (
        errors.InvalidRequest,
        errors.InvalidAddress,
        errors.MailboxExists,
        errors.MailboxNotFound,
        errors.MessageNotFound,
        errors.AgentNotFound,
        errors.LimitReached,
        errors.MailboxFull,
        errors.PayloadTooLarge,
        errors.IdConflict,
        errors.Unauthorized,
        errors.Forbidden,
        errors.Unavailable,
        errors.OutcomeUnknown,
        errors.BrokerFailed,
        errors.TooExpensive,
    )
}


_KINDS = Kinds(VALUES)
_SCALARS = tuple_of(SCALAR)
_CODE_AND_TEXT = pair_of(TEXT, TEXT)


class _Value:
    """The shape of what a command comes to."""

    def write(self, value: Any) -> Any:
        """Return a number or a text as it is, an array of them, or a map of a name to fields."""
        if type(value) is tuple:
            return _SCALARS.write(value)
        return SCALAR.write(value) if type(value) in (int, str) else _KINDS.write(value)

    def read(self, plain: Any) -> Any:
        """Return the value again."""
        if type(plain) is list:
            return _SCALARS.read(plain)
        return SCALAR.read(plain) if type(plain) in (int, str) else _KINDS.read(plain)


class _Refusal:
    """The shape of an error: its code and its text."""

    def write(self, error: Any) -> Any:
        """Return the code and the text."""
        if not isinstance(error, Mq9Error) or error.code not in ERRORS:
            raise Misfit(f"no command is refused with {type(error).__name__}")
        return _CODE_AND_TEXT.write((error.code, str(error)))

    def read(self, plain: Any) -> Mq9Error:
        """Return an error of the class that has the code."""
        code, text = _CODE_AND_TEXT.read(plain)
        if code not in ERRORS:
            raise Misfit(f"the code {code[:40]!r} is not known")
        return ERRORS[code](text)


OUTCOME = Record(
    Outcome, optional("value", _Value()), optional("error", _Refusal()), Field("now_ms", WHOLE)
)


def encode_outcome(outcome: Outcome[Any]) -> bytes:
    """Return the bytes of an outcome.

    Raises:
        ValueError: It is nothing that a command comes to; the text says why.
    """
    return frame(OUTCOME.write(outcome))


def decode_outcome(data: bytes) -> Outcome[Any]:
    """Return the outcome that was encoded, by this release or an older one.

    Raises:
        UnreadableEntry: It is damaged, or has in it what this release does not know.
    """
    outcome: Outcome[Any] = unframe(data, OUTCOME)
    return outcome
