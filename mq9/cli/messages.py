"""``mq9 send``, ``fetch``, ``ack`` and ``query``."""

from __future__ import annotations

import re
import shlex
import sys
from datetime import datetime
from typing import Any

import typer

from mq9.cli import output
from mq9.cli.output import count, known_as, moment, quoted, short, span, when
from mq9.cli.program import NOTHING_THERE, Address, CommandCall
from mq9.errors import InvalidRequest
from mq9.models import Deliver, FetchResult, Message, Moved, Priority, Waiting
from mq9.printable import one_line
from mq9.protocol import checks, replies
from mq9.protocol.outcomes import Stored

_MOST_STDIN = 64 * 1024 * 1024  # above the limit of any broker
_DIGITS = re.compile(r"\d{1,12}")


async def send(
    call: CommandCall,
    *,
    address: Address,
    body: str | None = typer.Argument(
        None, help="The message. - or none: standard input, byte for byte."
    ),
    priority: Priority = typer.Option(
        Priority.NORMAL, help="Critical comes first, then urgent, then normal."
    ),
    key: str | None = typer.Option(None, help="Replace the message with this key."),
    delay: int | None = typer.Option(None, min=0, help="Time until it becomes visible."),
    ttl: int | None = typer.Option(None, min=1, help="Lifetime of the message."),
    tag: list[str] | None = typer.Option(None, help="A word to find it by. Repeatable."),
    id_: str | None = typer.Option(
        None, "--id", help="Idempotency id: a repeated send stores nothing."
    ),
    sender: str | None = typer.Option(None, "--from", help="Sender. Readers see it as a claim."),
    reply_to: str | None = typer.Option(None, help="Mailbox for answers."),
    correlation_id: str | None = typer.Option(
        None, help="Id of the question that it asks or answers."
    ),
    answer_by: str | None = typer.Option(
        None,
        metavar="SECONDS",
        help="When an answer is wanted: in seconds, or at a time such as 2026-11-21T07:09.",
    ),
    tell_overdue: bool = typer.Option(
        False, "--tell-overdue", help="Send a notice to --reply-to if no answer came by then."
    ),
    header: list[str] | None = typer.Option(
        None, help="A header, such as 'color: red'. Repeatable."
    ),
) -> int:
    """Send a message. It is stored when the command returns."""
    headers = _headers(header or [])
    payload = (
        stdin_payload() if body is None or body == "-" else body.encode("utf-8", "surrogateescape")
    )
    async with call.client() as client:
        msg_id = await client.send(
            address,
            payload,
            priority=priority,
            key=key,
            delay=delay,
            ttl=ttl,
            tags=tag,
            id=id_,
            sender=sender,
            reply_to=reply_to,
            correlation_id=correlation_id,
            answer_by=_answer_by(answer_by, client.clock.now_ms()),
            tell_overdue=tell_overdue,
            headers=headers,
        )
    call.warn_of_memory()
    delayed = msg_id < 0
    call.out.show(
        {"mail_address": address, "msg_id": msg_id, "delayed": delayed},
        f"delayed for {span(delay or 0)}; it gets its id then"
        if delayed
        else f"stored as message {msg_id}",
    )
    return 0


def _answer_by(text: str | None, now_ms: int) -> float | None:
    """Read until when an answer is wanted: in how many seconds, or a date and time."""
    if text is None or not _DIGITS.fullmatch(text):
        return _instant("answer-by", text, "seconds")
    return now_ms / 1000 + int(text)


def _headers(lines: list[str]) -> dict[str, str]:
    """Read headers as they are written in the command line."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidRequest(f"header: {checks.shown(line)} is not 'name: value'")
        if name in headers:
            raise InvalidRequest(f"header: {checks.shown(name)} is repeated")
        headers[name] = value.strip()
    return headers


def stdin_payload() -> bytes:
    """Read a message from standard input."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InvalidRequest("body: give it as an argument, or pipe it in")
    payload = sys.stdin.buffer.read(_MOST_STDIN + 1)
    if len(payload) > _MOST_STDIN:
        raise InvalidRequest(f"body: standard input holds more than {_MOST_STDIN} bytes")
    return payload


async def fetch(
    call: CommandCall,
    *,
    address: Address,
    group: str | None = typer.Option(None, help="Lease the messages for this consumer group."),
    consumer: str | None = typer.Option(
        None,
        help="Consumer that holds the leases. It gets its own messages again.  "
        "[default: a new one each time]",
    ),
    deliver: Deliver = typer.Option(
        Deliver.EARLIEST,
        help="Where a new group, or a read without one, starts: earliest is everything stored, "
        "latest the newest message, new only later ones.",
    ),
    from_time: str | None = typer.Option(
        None, help="For --deliver from_time: Unix seconds, or 2026-11-21T07:09."
    ),
    from_id: int | None = typer.Option(
        None, min=0, help="For --deliver from_id: the first message."
    ),
    force_deliver: bool = typer.Option(
        False, "--force-deliver", help="Reset the group: forget its leases and acks."
    ),
    num: int = typer.Option(100, min=1, max=1_000, help="Most messages."),
    wait: float = typer.Option(0.5, min=0, max=60, help="Time to wait for a message."),
    lease: float = typer.Option(60.0, min=1, max=86_400, help="Duration of the leases."),
) -> int:
    """Fetch messages, most urgent first.

    With --group the messages are leased until they are acknowledged. Without, nothing changes.
    """
    async with call.client() as client:
        with call.out.working(f"waiting for a message in {address}", wait):
            found = await client.fetch(
                address,
                group_name=group,
                deliver=deliver,
                from_time=_instant("from-time", from_time),
                from_id=from_id,
                force_deliver=force_deliver,
                num_msgs=num,
                max_wait_ms=round(checks.seconds(60)("wait", wait) * 1000),
                lease_ms=round(checks.seconds(86_400)("lease", lease) * 1000),
                consumer=consumer,
            )
        now = client.clock.now_ms() / 1000
    document = {"mail_address": address, "group_name": group, **_document(found)}
    if not found:
        return call.nothing(document, _why_nothing(found.waiting, group, now))
    parts = [_message(message) for message in found]
    if group is not None and found.batch is not None:
        parts.append(_how_to_ack(found, address, group, consumer, now))
    if found.more:
        parts.append("there is more: fetch again")
    call.out.show(document, "\n\n".join(parts))
    return 0


def _how_to_ack(
    found: FetchResult, address: str, group: str, consumer: str | None, now: float
) -> str:
    words = ["mq9", "ack", address, group, str(found[-1].msg_id), "--batch", str(found.batch)]
    if consumer is not None:
        words += ["--consumer", consumer]
    until = "" if found.lease_until is None else f" within {span(found.lease_until - now)}"
    return f"to ack {'it' if len(found) == 1 else 'them all'}{until}:\n    {shlex.join(words)}"


def _why_nothing(waiting: Waiting | None, group: str | None, now: float) -> str:
    """Return in one line why a fetch found nothing."""
    if waiting is None:
        return "nothing there"
    reasons = []
    if waiting.delayed:
        due = waiting.next_due
        rest = "" if due is None else f", the next due {moment(due, now)}"
        reasons.append(f"{waiting.delayed} delayed{rest}")
    for lease in waiting.leased:
        until = moment(lease.until, now)
        reasons.append(
            f"{lease.count} given back, available {until}"
            if lease.consumer is None
            else f"{lease.count} leased to {short(lease.consumer)}, until {until}"
        )
    if waiting.acked:
        reasons.append(f"{waiting.acked} acked by {quoted(group)}")
    if waiting.moved:
        reasons.append(f"{waiting.moved} moved away by {quoted(group)}")
    if waiting.skipped:
        start = "this read's start" if group is None else f"the start of {quoted(group)}"
        remedy = " (--deliver earliest shows them)" if group is None else ""
        reasons.append(f"{waiting.skipped} before {start}{remedy}")
    text = f"nothing to fetch; {count(waiting.stored, 'message')} stored"
    return f"{text}: {'; '.join(reasons)}" if reasons else text


async def ack(
    call: CommandCall,
    *,
    address: Address,
    group: str = typer.Argument(..., help="The consumer group."),
    msg_id: int = typer.Argument(..., min=0, help="The message."),
    consumer: str | None = typer.Option(
        None, help="Consumer that fetched it.  [default: the last of the group]"
    ),
    batch: str | None = typer.Option(
        None, help="Token of the fetch.  [default: the latest fetch of the message]"
    ),
    individual: bool = typer.Option(False, "--individual", help="Acknowledge this message only."),
) -> int:
    """Acknowledge a message and the earlier ones of its fetch."""
    async with call.client() as client:
        acked = await client.ack(
            address,
            group,
            msg_id,
            batch=batch,
            individual=individual,
            consumer=consumer,
            any_consumer=consumer is None,
        )
    call.out.show(
        {"mail_address": address, "group_name": group, "acked": acked},
        f"acked {', '.join(map(str, acked))}"
        if acked
        else "nothing was acked: another consumer holds it now, or the fetch is out of date",
    )
    return 0 if acked else NOTHING_THERE


async def query(
    call: CommandCall,
    *,
    address: Address,
    key: str | None = typer.Option(None, help="Only the message with this key."),
    tag: list[str] | None = typer.Option(
        None, help="Only messages with this tag. Repeated: with all of them."
    ),
    correlation_id: str | None = typer.Option(None, help="Only this question and its answers."),
    since: str | None = typer.Option(
        None, help="Only later messages: Unix seconds, or 2026-11-21T07:09."
    ),
    limit: int = typer.Option(100, min=1, max=1_000, help="Most messages, from the newest."),
    msg_id: int | None = typer.Option(None, min=0, help="Only this message."),
) -> int:
    """Look at stored messages, oldest first."""
    async with call.client() as client:
        found = await client.query(
            address,
            key=key,
            tags=tag,
            correlation_id=correlation_id,
            since=_instant("since", since),
            limit=limit,
            msg_id=msg_id,
        )
    document = {"mail_address": address, **_document(found)}
    if not found:
        return call.empty(document, "no such message is stored")
    parts = [_message(message) for message in found]
    if found.more:
        parts.append("there are older messages: raise --limit, or narrow it with --since")
    call.out.show(document, "\n\n".join(parts))
    return 0


def _instant(name: str, text: str | None, number: str = "Unix seconds") -> int | None:
    """Read a point in time: Unix seconds, or a local date and time."""
    if text is None:
        return None
    if _DIGITS.fullmatch(text):
        return int(text)
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(
            f"{name}: {checks.shown(text)} is neither {number} nor a time such as 2026-11-21T07:09"
        ) from None


def _document(found: FetchResult) -> dict[str, Any]:
    """Return the result of a fetch or query, named as in the protocol."""
    document: dict[str, Any] = {"messages": [_fields(message) for message in found]}
    if found.batch is not None:
        document["batch"] = found.batch
        document["lease_until"] = found.lease_until
    if found.waiting is not None:
        document["waiting"] = replies.without_none(found.waiting)
    return {**document, "more": found.more}


def _fields(message: Message) -> dict[str, Any]:
    envelope = {
        "key": message.key,
        "tags": message.tags,
        "from": message.sender,
        "from_verified": message.sender_verified,
        "from_mailbox": message.from_mailbox,
        "reply_to": message.reply_to,
        "correlation_id": message.correlation_id,
        "path": message.path,
        "headers": dict(message.headers),
        "moved": message.moved and replies.without_none(message.moved),
        "answer_by": message.answer_by,
        "overdue": message.overdue,
    }
    stored = Stored(
        message.msg_id,
        message.payload,
        message.priority,
        message.create_time,
        message.delivery_count,
        {name: value for name, value in envelope.items() if value},
    )
    return replies.encode_message(stored, as_base64=False)


def _message(message: Message) -> str:
    """Return a message as text for people."""
    head = [f"#{message.msg_id}", message.priority.value, when(message.create_time)]
    if message.sender is not None:
        head.append(f"from {known_as(message.sender, message.sender_verified)}")
    if message.delivery_count > 1:
        head.append(f"delivery {message.delivery_count}")
    if message.answer_by is not None:
        head.append(f"answer by {when(message.answer_by)}")
    if message.overdue:
        head.append("notice of the broker: an answer is overdue")
    more = {
        "key": message.key,
        "tags": ",".join(message.tags),
        "from-mailbox": message.from_mailbox,
        "reply-to": message.reply_to,
        "correlation-id": message.correlation_id,
        "path": ",".join(message.path),
    }
    lines = ["  ".join(head)]
    described = "  ".join(f"{name}={quoted(value)}" for name, value in more.items() if value)
    if described:
        lines.append(described)
    if message.headers:
        headers = (f"{name}={quoted(value)}" for name, value in message.headers.items())
        lines.append(f"headers  {'  '.join(headers)}")
    if message.moved is not None:
        lines.append(_moved(message.moved))
    lines.append(output.indented(output.body(message.payload)))
    return "\n".join(lines)


def _moved(moved: Moved) -> str:
    """Return where a message was before it was moved, and why it was moved."""
    by = "" if moved.by is None else f" by {known_as(moved.by, moved.by_verified)}"
    why = "" if moved.reason is None else f": {one_line(moved.reason)}"
    times = count(moved.deliveries, "delivery", "deliveries")
    return (
        f"moved at {when(moved.at)}{by} from {moved.mailbox}, message {moved.msg_id}, after {times}"
        f" to group {quoted(moved.group)}{why}"
    )
