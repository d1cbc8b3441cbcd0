"""The JSON of every reply, written by the broker and read by the client.

Every reply has ``error``; the empty text means success. Instants are Unix seconds: whole in
``create_time`` and ``last_seen``, with milliseconds elsewhere. Unknown fields are ignored. The
functions that read a reply raise BadReply if its form is wrong.
"""

from __future__ import annotations

import binascii
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson

from mq9.errors import BadReply, Mq9Error, from_reply
from mq9.models import (
    AgentEntry,
    AgentMatch,
    AgentMatches,
    Extended,
    FetchResult,
    GroupStatus,
    Held,
    Identity,
    Leased,
    ListedMailbox,
    LookPolicy,
    MailboxPage,
    MailboxStatus,
    MailboxType,
    Match,
    Message,
    MessageHeaders,
    MessageHistory,
    Moved,
    Notice,
    NoticeReceipt,
    NoticeSender,
    Occasion,
    Priority,
    Promise,
    PublicMailbox,
    Removed,
    Role,
    SendOutcome,
    SendPolicy,
    Sent,
    SentAnswer,
    SentPage,
    Standing,
    Unread,
    Waiting,
)
from mq9.protocol import robustmq
from mq9.protocol.outcomes import (
    Created,
    Discovered,
    Fetched,
    Found,
    Grants,
    MoveOutcome,
    PublicPage,
    Stored,
)

T = TypeVar("T")


@contextmanager
def reading() -> Iterator[None]:
    """Raise BadReply if the code inside fails to read a reply."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadReply(f"the broker's reply cannot be read: {error!r}") from error


def success(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to a successful request."""
    return {"error": "", **fields}


def failure(error: Mq9Error) -> dict[str, Any]:
    """Return the reply to a refused request."""
    return {"error": str(error) or type(error).__doc__ or error.code, "code": error.code}


def encode(reply: dict[str, Any]) -> bytes:
    """Write a reply."""
    return orjson.dumps(reply)


def encode_msg_id(answer: int | Mq9Error) -> str:
    """Write the reply to a SEND without details: its msg_id, or its error."""
    if isinstance(answer, int):
        return f'{{"error":"","msg_id":{answer}}}'
    return encode(failure(answer)).decode()


def decode(data: bytes) -> dict[str, Any]:
    """Read a reply, or raise the error that it reports."""
    try:
        reply = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadReply(f"the broker's reply is not JSON: {error}") from None
    if not isinstance(reply, dict):
        raise BadReply(f"the broker's reply is not a JSON object: {data[:80]!r}")
    refusal = reply.get("error", "")
    if refusal:
        code = reply.get("code")
        raise from_reply(str(refusal), code if isinstance(code, str) else None)
    return reply


def field(reply: dict[str, Any], name: str) -> Any:
    """Return a required field of a reply."""
    try:
        return reply[name]
    except KeyError:
        raise BadReply(f"the broker's reply has no {name}: {sorted(reply)}") from None


def whole(reply: dict[str, Any], name: str) -> int:
    """Return a required field of a reply that is an integer."""
    value = field(reply, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadReply(f"the broker's reply has {value!r} for {name}, which is not a whole number")
    return value


def ids(reply: dict[str, Any], name: str) -> tuple[int, ...]:
    """Return a required field of a reply that is a list of message ids."""
    value = field(reply, name)
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        raise BadReply(f"the broker's reply has {value!r} for {name} instead of a list of ids")
    return tuple(value)


def filled(kind: type[T], data: dict[str, Any], **convert: Callable[[Any], Any]) -> T:
    """Return a dataclass with the fields of the same names; null counts as absent.

    Args:
        kind: The dataclass.
        data: Part of a reply.
        convert: Functions that convert the values of some fields.
    """
    values = {
        one.name: value
        for one in dataclasses.fields(kind)  # type: ignore[arg-type]  # T has no bound for these
        if (value := data.get(one.name)) is not None
    }
    for name in convert.keys() & values.keys():
        values[name] = convert[name](values[name])
    return kind(**values)


def encode_message(message: Stored, *, as_base64: bool) -> dict[str, Any]:
    """Write a message of a FETCH or QUERY reply.

    Args:
        message: The stored message.
        as_base64: Whether the client asked for base64. Otherwise the payload is text, or base64
            with ``encoding`` if it is not UTF-8.
    """
    item: dict[str, Any] = {"msg_id": message.msg_id}
    try:
        text = None if as_base64 else message.payload.decode()
    except UnicodeDecodeError:
        text = None
    if text is None:
        item["payload"] = binascii.b2a_base64(message.payload, newline=False).decode()
        item["encoding"] = "base64"
    else:
        item["payload"] = text
    item["priority"] = message.priority  # orjson writes its value, faster than Python finds it
    item["create_time"] = message.create_time
    item["delivery_count"] = message.delivery_count
    if message.deaths:
        item["deaths"] = message.deaths
    if message.envelope is not None:
        item.update(message.envelope)
    return item


_PRIORITIES = {one.value: one for one in Priority}  # three times as fast as `Priority(...)`


def decode_message(item: dict[str, Any]) -> Stored:
    """Read a message of a FETCH or QUERY reply.

    ``encoding`` counts if it is present. A message without it but with a ``header`` field comes
    from RobustMQ and is plain text. A message with neither is base64.
    """
    payload: str = item["payload"]
    if item.get("encoding", "base64") == "base64" and not robustmq.is_plain_text(item):
        body = binascii.a2b_base64(payload, strict_mode=True)
    else:
        body = payload.encode("utf-8")
    named = item.get("priority") or "normal"
    return Stored(
        item["msg_id"],
        body,
        _PRIORITIES.get(named) or Priority(named),
        item.get("create_time", 0),
        item.get("delivery_count", 0),
        item,
        item.get("deaths", 0),
    )


@reading()
def messages_of(
    fetched: Fetched | Found,
    mail_address: str,
    group_name: str | None = None,
    consumer: str | None = None,
) -> FetchResult:
    """Return the result of a FETCH, with or without a group, or of a QUERY."""
    batch, lease_until, waiting = (
        (fetched.batch, fetched.lease_until, fetched.waiting)
        if isinstance(fetched, Fetched)
        else (None, None, None)
    )
    return FetchResult(
        read_messages(
            fetched.messages,
            mail_address=mail_address,
            batch=batch,
            group_name=group_name,
            consumer=consumer,
        ),
        batch=batch,
        lease_until=lease_until,
        more=fetched.more,
        waiting=waiting,
        held=fetched.held if isinstance(fetched, Fetched) else None,
        held_more=isinstance(fetched, Fetched) and fetched.held_more,
    )


def read_messages(stored: Iterable[Stored], **common: object) -> Iterator[Message]:
    """Yield stored messages as the client shows them; ``common`` are fields of all of them."""
    alike = _DEFAULTS | common
    for msg_id, payload, priority, create_time, delivery_count, envelope, deaths in stored:
        fields = alike.copy()
        fields["msg_id"] = msg_id
        fields["payload"] = payload
        fields["priority"] = priority
        fields["create_time"] = create_time
        fields["delivery_count"] = delivery_count
        fields["deaths"] = deaths
        if envelope:
            for key, value in envelope.items():
                if value and key in _BESIDE:
                    name, read = _BESIDE[key]
                    fields[name] = value if read is None else read(value)
        yield Message.of(fields)


def standing_of(data: dict[str, Any]) -> Standing:
    """Read the state of a message in a group."""
    return filled(Standing, data, moved=moved_of, promise=promise_of)


def moved_of(data: dict[str, Any]) -> Moved:
    """Read the former place of a moved message."""
    return filled(Moved, data)


def promise_of(data: dict[str, Any]) -> Promise:
    """Read the promise of a holder."""
    return filled(Promise, data)


_DEFAULTS = {one.name: one.default for one in dataclasses.fields(Message)}
# The envelope of a message: the field of each key, and the function that reads its value.
_BESIDE: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "key": ("key", None),
    "tags": ("tags", tuple),
    "from": ("sender", None),
    "from_verified": ("sender_verified", None),
    "from_mailbox": ("from_mailbox", None),
    "reply_to": ("reply_to", None),
    "correlation_id": ("correlation_id", None),
    "path": ("path", tuple),
    "headers": ("headers", MessageHeaders),
    "moved": ("moved", moved_of),
    "answer_by": ("answer_by", None),
    "overdue": ("overdue", lambda value: value is True),
    "standing": ("standing", standing_of),
}


def nothing(_outcome: object) -> dict[str, Any]:
    """Return the fields of a reply that only reports success: none."""
    return {}


def decode_nothing(_reply: dict[str, Any]) -> None:
    """Read a reply that only reports success."""


def encode_created(created: Created) -> dict[str, Any]:
    """Write the outcome of CREATE."""
    fields: dict[str, Any] = {"mail_address": created.mail_address}
    if created.type is not None:
        fields["type"] = created.type
    names = ("send_policy", "look_policy", "viewers")
    rights = {name: value for name in names if (value := getattr(created, name)) is not None}
    return fields | (rights | {"enforced": created.enforced} if rights else {})


@reading()
def decode_created(reply: dict[str, Any]) -> Created:
    """Read the reply to a CREATE."""
    return Created(
        field(reply, "mail_address"),
        "",
        MailboxType(reply["type"]) if "type" in reply else None,
        SendPolicy(reply["send_policy"]) if "send_policy" in reply else None,
        reply.get("enforced", True),
        LookPolicy(reply["look_policy"]) if "look_policy" in reply else None,
        tuple(reply["viewers"]) if "viewers" in reply else None,
    )


@reading()
def decode_grants(reply: dict[str, Any]) -> Grants:
    """Read the reply to a GRANT."""
    lists = dict.fromkeys(("readers", "viewers", "senders"), tuple)
    return filled(Grants, reply, **lists, send_policy=SendPolicy, look_policy=LookPolicy)


def encode_send(sent: int | SendOutcome) -> dict[str, Any]:
    """Write the outcome of SEND."""
    return {"msg_id": sent} if isinstance(sent, int) else without_none(sent)


def decode_send(reply: dict[str, Any]) -> int | SendOutcome:
    """Read the reply to a SEND."""
    msg_id = whole(reply, "msg_id")
    details = {name: whole(reply, name) for name in ("delayed_id", "replaced") if name in reply}
    return SendOutcome(msg_id=msg_id, **details) if details else msg_id


def encode_acked(acked: tuple[int, ...]) -> dict[str, Any]:
    """Write the ids that ACK has confirmed."""
    return {"acked": acked}


@reading()
def decode_acked(reply: dict[str, Any]) -> tuple[int, ...]:
    """Read the reply to an ACK."""
    return tuple(reply.get("acked") or ())


def encode_move(outcome: MoveOutcome) -> dict[str, Any]:
    """Write the outcome of MOVE."""
    return {} if outcome.msg_id is None else {"msg_id": outcome.msg_id}


def decode_move(reply: dict[str, Any]) -> MoveOutcome:
    """Read the reply to a MOVE."""
    return MoveOutcome(msg_id=None if reply.get("msg_id") is None else whole(reply, "msg_id"))


def decode_extended(reply: dict[str, Any]) -> Extended:
    """Read the reply to an EXTEND."""
    return Extended(ids(reply, "extended"), ids(reply, "lost"))


def encode_deleted(_outcome: None) -> dict[str, Any]:
    """Write that DELETE has removed the message."""
    return {"deleted": True}


def encode_cancelled(_outcome: None) -> dict[str, Any]:
    """Write that CANCEL has removed the delayed message."""
    return {"cancelled": True}


def encode_notice(notice: Notice) -> dict[str, Any]:
    """Write the notice for a session."""
    fields = without_none(notice)
    fields["waiting"] = fields.pop("unread")  # ``unread`` belongs to the header ``mq9-unread``
    return fields


@reading()
def decode_notice(reply: dict[str, Any]) -> Notice:
    """Read the reply to a NOTICE."""
    field(reply, "told")
    return filled(
        Notice,
        {**reply, "unread": field(reply, "waiting")},
        new=_unread,
        unread=_unread,
        senders=lambda items: tuple(filled(NoticeSender, one) for one in items),
    )


def encode_mailbox(mail_address: str) -> dict[str, Any]:
    """Write the mailbox of a registered agent."""
    return {"mailbox": mail_address}


def decode_mailbox(reply: dict[str, Any]) -> str:
    """Read the mailbox of a registered agent; "" if the broker does not report it."""
    return str(reply.get("mailbox") or "")


def decode_whoami(reply: dict[str, Any]) -> Identity:
    """Read the identity of the client; an unknown role is left out."""
    agent, role = reply.get("agent"), reply.get("role")
    return Identity(
        agent if isinstance(agent, str) else None,
        next((known for known in Role if known == role), None),
    )


def encode_fetch(fetched: Fetched, *, as_base64: bool) -> dict[str, Any]:
    """Write the outcome of FETCH."""
    reply: dict[str, Any] = {
        "messages": [encode_message(message, as_base64=as_base64) for message in fetched.messages]
    }
    if fetched.batch is not None:
        reply["batch"] = fetched.batch
        reply["lease_until"] = fetched.lease_until
    if fetched.more:
        reply["more"] = True
    if fetched.waiting is not None:
        reply["waiting"] = without_none(fetched.waiting)
    if fetched.held is not None:
        reply["held"] = [dataclasses.asdict(one) for one in fetched.held]
        if fetched.held_more:
            reply["held_more"] = True
    return reply


@reading()
def decode_fetch(reply: dict[str, Any]) -> Fetched:
    """Read the reply to a FETCH."""
    waiting = reply.get("waiting")
    return Fetched(
        mail_address="",
        generation="",
        messages=tuple(map(decode_message, reply.get("messages") or ())),
        batch=reply.get("batch"),
        lease_until=reply.get("lease_until"),
        more=reply.get("more", False),
        waiting=filled(Waiting, {"stored": 0, "delayed": 0, **waiting}, leased=_leased)
        if waiting
        else None,
        held=tuple(filled(Held, one, priority=Priority) for one in reply["held"])
        if "held" in reply
        else None,
        held_more=reply.get("held_more", False),
    )


def _leased(items: Iterable[dict[str, Any]]) -> tuple[Leased, ...]:
    return tuple(Leased(item.get("consumer"), item["count"], item["until"]) for item in items)


def encode_query(found: Found, *, as_base64: bool) -> dict[str, Any]:
    """Write the outcome of QUERY."""
    fields: dict[str, Any] = {
        "messages": [encode_message(message, as_base64=as_base64) for message in found.messages]
    }
    if found.more:
        fields["more"] = True
    return fields


@reading()
def decode_query(reply: dict[str, Any]) -> Found:
    """Read the reply to a QUERY."""
    messages = tuple(map(decode_message, reply.get("messages") or ()))
    return Found(messages=messages, more=reply.get("more", False))


def encode_sent(page: SentPage) -> dict[str, Any]:
    """Write a page of sent messages."""
    fields: dict[str, Any] = {"sent": [without_none(one) for one in page.sent]}
    if page.more is not None:
        fields["more"] = page.more
    return fields


def encode_mailboxes(page: MailboxPage) -> dict[str, Any]:
    """Write a page of mailboxes."""
    fields: dict[str, Any] = {"mailboxes": [without_none(one) for one in page.mailboxes]}
    return fields | ({"more": True} if page.more else {})


@reading()
def decode_mailboxes(reply: dict[str, Any]) -> MailboxPage:
    """Read the reply to an OWN.LIST."""
    return MailboxPage(
        mailboxes=tuple(filled(ListedMailbox, one) for one in field(reply, "mailboxes")),
        more=reply.get("more", False),
    )


@reading()
def decode_sent(reply: dict[str, Any]) -> SentPage:
    """Read the reply to a SENT."""
    return SentPage(
        sent=tuple(
            filled(Sent, one, priority=Priority, promise=promise_of, answer=_answer)
            for one in field(reply, "sent")
        ),
        more=reply.get("more"),
    )


def _answer(data: dict[str, Any]) -> SentAnswer:
    return filled(SentAnswer, data)


@reading()
def decode_status(reply: dict[str, Any]) -> MailboxStatus:
    """Read the reply to a STATUS."""
    field(reply, "mail_address")
    return filled(
        MailboxStatus,
        reply,
        type=MailboxType,
        removed=lambda data: filled(Removed, data),
        group=lambda data: filled(GroupStatus, data, pending=_unread, leased=_leased),
        message=_history,
        send_policy=SendPolicy,
        look_policy=LookPolicy,
        **dict.fromkeys(("readers", "viewers", "senders", "rights"), tuple),
    )


def _history(data: dict[str, Any]) -> MessageHistory:
    return filled(
        MessageHistory,
        data,
        priority=Priority,
        moved=moved_of,
        groups=lambda items: tuple(map(standing_of, items)),
        notices=lambda items: tuple(filled(NoticeReceipt, one, occasion=Occasion) for one in items),
    )


@reading()
def decode_unread(reply: dict[str, Any]) -> Unread | None:
    """Read the ``unread`` field, if the broker sent one."""
    unread = reply.get("unread")
    return _unread(unread) if unread else None


def _unread(data: dict[str, int]) -> Unread:
    return filled(Unread, data)


def encode_public(page: PublicPage) -> dict[str, Any]:
    """Write a page of public mailboxes."""
    fields: dict[str, Any] = {"mailboxes": [dataclasses.asdict(one) for one in page.mailboxes]}
    if page.more:
        fields["more"] = True
    return fields


@reading()
def decode_public(reply: dict[str, Any]) -> PublicPage:
    """Read the reply to PUBLIC.LIST."""
    mailboxes = tuple(filled(PublicMailbox, item) for item in reply.get("mailboxes") or ())
    return PublicPage(mailboxes=mailboxes, more=reply.get("more") is True)


def encode_discover(found: Discovered) -> dict[str, Any]:
    """Write a page of agents, best first: their registrations as they came, and their matches."""
    return {
        "agents": [
            orjson.Fragment(registered) if isinstance(registered, bytes) else registered
            for registered, _ in found.agents
        ],
        "matches": [dataclasses.asdict(match) for _, match in found.agents],
        "mode": found.mode,
        "has_more": found.has_more,
    }


@reading()
def decode_discover(reply: dict[str, Any]) -> Discovered:
    """Read the reply to DISCOVER."""
    agents = reply.get("agents") or ()
    matches = reply.get("matches") or ()
    found: list[tuple[dict[str, Any], Match]] = []
    for registered, match in itertools.zip_longest(agents, matches):
        if not isinstance(registered, dict):
            raise BadReply(f"the broker sent an agent that is not a JSON object: {registered!r}")
        if match is None:
            found.append(robustmq.decode_agent(registered))
        else:
            found.append((registered, filled(Match, {"name": "", "mailbox": "", **match})))
    return Discovered(
        agents=tuple(found), mode=reply.get("mode"), has_more=bool(reply.get("has_more"))
    )


def agents_of(found: Discovered) -> AgentMatches:
    """Return the agents in the outcome of DISCOVER."""
    return AgentMatches(
        [
            AgentMatch(orjson.loads(one) if isinstance(one, bytes) else one, match)
            for one, match in found.agents
        ],
        mode=found.mode,
        has_more=found.has_more,
    )


def encode_lookup(found: tuple[AgentEntry, ...]) -> dict[str, Any]:
    """Write the outcome of LOOKUP."""
    return {"agents": [without_none(one) for one in found]}


@reading()
def decode_lookup(reply: dict[str, Any]) -> tuple[AgentEntry, ...]:
    """Read the reply to a LOOKUP."""
    return tuple(filled(AgentEntry, item) for item in field(reply, "agents"))


def without_none(value: Any) -> dict[str, Any]:
    """Return a dataclass as a dictionary, without the fields that are None."""
    return dataclasses.asdict(
        value, dict_factory=lambda items: {k: v for k, v in items if v is not None}
    )
