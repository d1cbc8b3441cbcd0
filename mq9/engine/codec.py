"""Commands as bytes for the log, which later releases can read.

In every version of the format the first byte is the version. The next four bytes are the CRC-32 of
the rest, with the version as its initial value. In version 1 the rest is one MessagePack value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import ormsgpack

from mq9.engine import commands
from mq9.engine.commands import ANYBODY, Actor, Call, Limits, PlainSend
from mq9.engine.shapes import (
    FLAG,
    INTEGER,
    INTEGERS,
    RAW,
    TEXT,
    TEXTS,
    Field,
    Kinds,
    Misfit,
    Record,
    Shape,
    one_of,
    optional,
    pair_of,
    text_or,
    tuple_of,
)
from mq9.models import (
    Deliver,
    LookPolicy,
    MailboxType,
    Occasion,
    Priority,
    Promise,
    Role,
    SendPolicy,
)
from mq9.protocol import requests
from mq9.protocol.body import Request

VERSION = 1
_HEAD = 5  # bytes
_PAIRS = tuple_of(pair_of(TEXT, TEXT))
_CONSUMER = optional("consumer", TEXT)
_GROUP = Field("group_name", TEXT)
_BATCH = optional("batch", TEXT)
_MSG_ID = Field("msg_id", INTEGER)
_AGENT = (optional("name", TEXT), optional("mailbox", TEXT))
LIMITS = Record(
    Limits,
    Field("max_payload", INTEGER),
    Field("max_registration", INTEGER),
    Field("max_mailboxes", INTEGER),
    Field("max_messages", INTEGER),
    Field("max_bytes", INTEGER),
    Field("max_agents", INTEGER),
    Field("max_groups", INTEGER),
    Field("max_ids", INTEGER),
    Field("max_redelivered", INTEGER),
)
PROMISE = Record(Promise, Field("until", INTEGER), optional("done", TEXT), optional("by", TEXT))
# The name and the fields of each command. A name is never reused. A command stays here as long as a
# log may hold it.
COMMANDS: Mapping[str, Record] = {
    "create_mailbox": Record(
        requests.CreateMailbox,
        optional("name", TEXT),
        Field("type", one_of(MailboxType), MailboxType.STANDARD),
        Field("ttl", INTEGER, 0),
        Field("desc", TEXT, ""),
        Field("public", FLAG, False),
        optional("prefix", TEXT),
        Field("renew", FLAG, False),
        Field("send_policy", one_of(SendPolicy), SendPolicy.EVERYONE),
        Field("look_policy", one_of(LookPolicy), LookPolicy.GRANTED),
        Field("viewers", TEXTS, ()),
    ),
    "drop_mailbox": Record(requests.DropMailbox),
    "grant_mailbox": Record(
        requests.GrantMailbox,
        optional("readers", TEXTS),
        optional("viewers", TEXTS),
        optional("senders", TEXTS),
        optional("send_policy", one_of(SendPolicy)),
        optional("look_policy", one_of(LookPolicy)),
    ),
    "send": Record(
        requests.Send,
        Field("priority", one_of(Priority), Priority.NORMAL),
        optional("key", TEXT),
        optional("delay", INTEGER),
        optional("ttl", INTEGER),
        Field("tags", TEXTS, ()),
        optional("id", TEXT),
        optional("sender", TEXT),
        optional("reply_to", TEXT),
        optional("correlation_id", TEXT),
        Field("path", TEXTS, ()),
        Field("headers", _PAIRS, ()),
        optional("from_mailbox", TEXT),
        Field("details", FLAG, False),
        optional("answer_by", INTEGER),
        Field("tell_overdue", FLAG, False),
    ),
    "fetch": Record(
        requests.Fetch,
        _CONSUMER,
        optional("group_name", TEXT),
        Field("deliver", one_of(Deliver), Deliver.EARLIEST),
        optional("from_time", INTEGER),
        optional("from_id", INTEGER),
        optional("priority", one_of(Priority)),
        Field("force_deliver", FLAG, False),
        optional("request_id", TEXT),
        Field("num_msgs", INTEGER, 100),
        Field("max_bytes", INTEGER, 4 * 1024 * 1024),
        Field("max_wait_ms", INTEGER, 500),
        Field("lease_ms", INTEGER, 60_000),
        Field("redeliver_own", FLAG, True),
        Field("begun", FLAG, False),
        Field("list_held", FLAG, False),
        Field("min_msgs", INTEGER, 1),
        Field("linger_ms", INTEGER, 0),
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
    "nack": Record(
        requests.Nack,
        _CONSUMER,
        _GROUP,
        _MSG_ID,
        _BATCH,
        Field("delay_ms", INTEGER, 0),
        optional("reason", TEXT),
    ),
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
        Field("msg_ids", INTEGERS),
        Field("lease_ms", INTEGER, 60_000),
        optional("begun", FLAG),
        optional("promise", PROMISE),
    ),
    "release": Record(requests.Release, _CONSUMER, _GROUP, Field("request_id", TEXT)),
    "delete": Record(requests.Delete, _MSG_ID),
    "notify": Record(
        requests.Notify,
        Field("host", TEXT),
        Field("session", TEXT),
        Field("occasion", one_of(Occasion)),
        Field("may_wake", text_or(TEXTS), "known"),
        Field("max_in_a_row", INTEGER, 3),
        Field("max_per_hour", INTEGER, 12),
        Field("cooldown_s", INTEGER, 30),
    ),
    "cancel": Record(requests.Cancel, Field("delayed_id", INTEGER), optional("sender", TEXT)),
    "register": Record(requests.Register, *_AGENT, Field("ttl", INTEGER, 0)),
    "unregister": Record(requests.Unregister, *_AGENT),
    "report": Record(requests.Report, *_AGENT),
    "advance": Record(commands.Advance),
    "undo": Record(commands.Undo, Field("batch", TEXT), Field("copy", INTEGER, 1)),
    "note_read": Record(commands.NoteRead, _GROUP, Field("cursors", INTEGERS)),
    "claim_names": Record(
        commands.ClaimNames,
        Field("names", _PAIRS),
        Field("addresses", _PAIRS),
        Field("with_sub_addresses", FLAG, False),
    ),
    "seen": Record(commands.Seen, Field("name", TEXT)),
    "sweep": Record(commands.Sweep, Field("most", INTEGER, 1_000)),
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
    Field("may_list", FLAG, False),
    optional("reply_owner", TEXT),
    optional("role", one_of(Role)),
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
    """Return the bytes of a command, equal for equal calls; raise ValueError for any other call."""
    return frame(CALL.write(call))


def encode_sends(batch: Call[commands.SendBatch]) -> list[bytes]:
    """Return the bytes of each SEND of a batch, the same as of its own call."""
    encoded = []
    like: PlainSend | None = None
    plain: dict[str, Any] = {}
    for send in batch.request.sends:
        # Those that differ only in id and payload have the same fields in the same order.
        if (
            like is None
            or send.options is not like.options
            or (send.id is None) != (like.id is None)
            or (not send.payload) != (not like.payload)
        ):
            like, plain = send, CALL.write(send.call(batch))
        if send.id is not None:
            plain["request"]["send"]["id"] = send.id
        if send.payload:
            plain["payload"] = send.payload
        encoded.append(frame(plain))
    return encoded


def decode_call(data: bytes) -> Call[Request[Any]]:
    """Return a call that this release or an older one encoded; raise UnreadableEntry."""
    call: Call[Request[Any]] = unframe(data, CALL)
    return call


class UnreadableEntry(Exception):  # skipping an entry would lead to another state
    """An encoded command that this release cannot read; no later entry may be applied."""


class DamagedEntry(UnreadableEntry):
    """The bytes differ from those that were written."""


class UnknownEntry(UnreadableEntry):
    """The bytes hold a version, kind, field or value that this release does not know."""


def frame(plain: Any) -> bytes:
    """Return the bytes of a value for the log."""
    try:
        body = ormsgpack.packb(plain)
    except ormsgpack.MsgpackEncodeError as error:
        raise ValueError(f"cannot be encoded: {error}") from None
    return b"%c%b%b" % (VERSION, crc32(body, VERSION).to_bytes(4), body)


def unframe(data: bytes, shape: Shape) -> Any:
    """Return the value that ``frame`` encoded; raise UnreadableEntry."""
    if len(data) < _HEAD:
        raise DamagedEntry(f"{len(data)} bytes are too few for an entry")
    version = data[0]
    body = memoryview(data)[_HEAD:]
    if crc32(body, version) != int.from_bytes(data[1:_HEAD]):
        raise DamagedEntry(f"the checksum of an entry of {len(data)} bytes is wrong")
    if version != VERSION:
        raise UnknownEntry(f"the format version {version} is not known, only up to {VERSION}")
    try:
        return shape.read(ormsgpack.unpackb(body))
    except (ormsgpack.MsgpackDecodeError, Misfit) as error:
        raise UnknownEntry(f"in format version {version}: {error}") from None
