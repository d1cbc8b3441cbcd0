"""Calls of commands, as the bytes that a log holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mq9.engine import commands
from mq9.engine.codec.frame import frame, unframe
from mq9.engine.codec.records import Field, Kinds, Record, optional
from mq9.engine.codec.shapes import (
    FLAG,
    RAW,
    TEXT,
    TEXTS,
    WHOLE,
    WHOLES,
    one_of,
    pair_of,
    tuple_of,
)
from mq9.engine.commands import ANYBODY, Actor, Call
from mq9.engine.limits import Limits
from mq9.models import Deliver, MailboxType, Priority, SendPolicy
from mq9.protocol import requests
from mq9.protocol.request import Request

_PAIRS = tuple_of(pair_of(TEXT, TEXT))
_CONSUMER = optional("consumer", TEXT)
_GROUP = Field("group_name", TEXT)
_BATCH = optional("batch", TEXT)
_MSG_ID = Field("msg_id", WHOLE)
_AGENT = (optional("name", TEXT), optional("mailbox", TEXT))

LIMITS = Record(
    Limits,
    Field("max_payload", WHOLE),
    Field("max_registration", WHOLE),
    Field("max_mailboxes", WHOLE),
    Field("max_messages", WHOLE),
    Field("max_bytes", WHOLE),
    Field("max_agents", WHOLE),
    Field("max_groups", WHOLE),
    Field("max_ids", WHOLE),
    Field("max_redelivered", WHOLE),
)

# Of each command its name, which is never given to another one, and its fields. A command stays
# here as long as a log may hold it.
COMMANDS: Mapping[str, Record] = {
    "create_mailbox": Record(
        requests.CreateMailbox,
        optional("name", TEXT),
        Field("type", one_of(MailboxType), MailboxType.STANDARD),
        Field("ttl", WHOLE, 0),
        Field("desc", TEXT, ""),
        Field("public", FLAG, False),
        optional("prefix", TEXT),
        Field("renew", FLAG, False),
        Field("send_policy", one_of(SendPolicy), SendPolicy.EVERYONE),
    ),
    "drop_mailbox": Record(requests.DropMailbox),
    "grant_mailbox": Record(
        requests.GrantMailbox,
        optional("readers", TEXTS),
        optional("viewers", TEXTS),
        optional("senders", TEXTS),
        optional("send_policy", one_of(SendPolicy)),
    ),
    "send": Record(
        requests.Send,
        Field("priority", one_of(Priority), Priority.NORMAL),
        optional("key", TEXT),
        optional("delay", WHOLE),
        optional("ttl", WHOLE),
        Field("tags", TEXTS, ()),
        optional("id", TEXT),
        optional("sender", TEXT),
        optional("reply_to", TEXT),
        optional("correlation_id", TEXT),
        Field("path", TEXTS, ()),
        Field("headers", _PAIRS, ()),
        optional("from_mailbox", TEXT),
    ),
    "fetch": Record(
        requests.Fetch,
        _CONSUMER,
        optional("group_name", TEXT),
        Field("deliver", one_of(Deliver), Deliver.EARLIEST),
        optional("from_time", WHOLE),
        optional("from_id", WHOLE),
        optional("priority", one_of(Priority)),
        Field("force_deliver", FLAG, False),
        optional("request_id", TEXT),
        Field("num_msgs", WHOLE, 100),
        Field("max_bytes", WHOLE, 4 * 1024 * 1024),
        Field("max_wait_ms", WHOLE, 500),
        Field("lease_ms", WHOLE, 60_000),
        Field("redeliver_own", FLAG, True),
        Field("begun", FLAG, False),
    ),
    "ack": Record(
        requests.Ack,
        _CONSUMER,
        _GROUP,
        optional("mail_address", TEXT),
        _MSG_ID,
        _BATCH,
        Field("individual", FLAG, False),
    ),
    "nack": Record(requests.Nack, _CONSUMER, _GROUP, _MSG_ID, _BATCH, Field("delay_ms", WHOLE, 0)),
    "move": Record(
        requests.Move,
        _CONSUMER,
        _GROUP,
        _MSG_ID,
        _BATCH,
        Field("to", TEXT),
        optional("reason", TEXT),
    ),
    "extend": Record(
        requests.Extend,
        _CONSUMER,
        _GROUP,
        Field("msg_ids", WHOLES),
        Field("lease_ms", WHOLE, 60_000),
        optional("begun", FLAG),
    ),
    "release": Record(requests.Release, _CONSUMER, _GROUP, Field("request_id", TEXT)),
    "delete": Record(requests.Delete, _MSG_ID),
    "register": Record(requests.Register, *_AGENT, Field("ttl", WHOLE, 0)),
    "unregister": Record(requests.Unregister, *_AGENT),
    "report": Record(requests.Report, *_AGENT),
    "advance": Record(commands.Advance),
    "undo": Record(commands.Undo, Field("batch", TEXT), Field("copy", WHOLE, 1)),
    "note_read": Record(commands.NoteRead, _GROUP, Field("cursors", WHOLES)),
    "claim_names": Record(
        commands.ClaimNames,
        Field("names", _PAIRS),
        Field("addresses", _PAIRS),
        Field("with_sub_addresses", FLAG, False),
    ),
    "seen": Record(commands.Seen, Field("name", TEXT)),
    "sweep": Record(commands.Sweep, Field("most", WHOLE, 1_000)),
    "set_limits": Record(commands.SetLimits, Field("limits", LIMITS)),
}

ACTOR = Record(
    Actor,
    optional("agent", TEXT),
    optional("owner", TEXT),
    Field("own", TEXTS, ()),
    Field("closed", FLAG, False),
    optional("other_owner", TEXT),
    optional("below", TEXT),
    Field("apart", TEXTS, ()),
    Field("barred", FLAG, False),
    Field("is_stranger", FLAG, False),
)

CALL = Record(
    Call,
    Field("request", Kinds(COMMANDS)),
    Field("address", TEXT, ""),
    Field("actor", ACTOR, ANYBODY),
    Field("default_consumer", TEXT, ""),
    Field("payload", RAW, b""),
    Field("token", TEXT, ""),
    optional("generation", TEXT),
    Field("as_text", FLAG, False),
)


def encode_call(call: Call[Request[Any]]) -> bytes:
    """Return the bytes of a call, the same for calls that are equal.

    Raises:
        ValueError: It is not one of a command, or a field holds what it may not; the text says
            which.
    """
    return frame(CALL.write(call))


def decode_call(data: bytes) -> Call[Request[Any]]:
    """Return the call that was encoded, by this release or an older one.

    Raises:
        UnreadableEntry: It is damaged, or has in it what this release does not know.
    """
    call: Call[Request[Any]] = unframe(data, CALL)
    return call
