"""``mq9 why``: the history of a message and its state in each consumer group."""

from __future__ import annotations

import dataclasses

import typer

from mq9.cli.output import count, known_as, moment, quoted, span
from mq9.cli.program import NOTHING_THERE, Address, CommandCall
from mq9.client.client import Mq9Client
from mq9.models import (
    GroupStatus,
    MailboxStatus,
    MessageHistory,
    Moved,
    NoticeReceipt,
    Occasion,
    Standing,
)
from mq9.printable import one_line

_WITHOUT_HISTORY = ("unassigned", "unknown")


async def why(
    call: CommandCall,
    *,
    address: Address,
    msg_id: int = typer.Argument(..., min=0, help="The message."),
    group: str | None = typer.Option(None, help="Only its state in this consumer group."),
) -> int:
    """Explain what happened to a message."""
    async with call.client() as client:
        message, story = await story_of(client, address, msg_id, group)
    document = {"mail_address": address, "message": dataclasses.asdict(message), "story": story}
    call.out.show(document, *story)
    return NOTHING_THERE if message.state in _WITHOUT_HISTORY else 0


async def story_of(
    client: Mq9Client, address: str, msg_id: int, group: str | None = None
) -> tuple[MessageHistory, list[str]]:
    """Return the history of a message, and the same as sentences.

    Args:
        client: The client that sends the request.
        address: The mailbox.
        msg_id: The message.
        group: Return only its state in this consumer group. Default: in all groups.
    """
    status = await client.mailbox_status(address, group_name=group, msg_id=msg_id)
    now = client.clock.now_ms() / 1000
    message = status.message
    if message is None:  # not every broker reports single messages
        message = MessageHistory(msg_id=msg_id, state="unknown")
    if group is not None:
        message = dataclasses.replace(
            message, groups=tuple(one for one in message.groups if one.group_name == group)
        )
    return message, tell(status, message, now)


def tell(status: MailboxStatus, message: MessageHistory, now: float) -> list[str]:
    """Return the history of a message as sentences."""
    if message.state in _WITHOUT_HISTORY:
        return _without_history(status, message, now)
    sentences = [
        *_begin(status, message, now),
        *_end(status, message, now),
        *_noticed(message, now),
    ]
    if message.answer_by is not None:
        sentences.append(f"Its sender expects an answer by {moment(message.answer_by, now)}.")
    if message.state == "stored":
        for one in message.groups:
            sentences += [_stands(one, now), *_of_consumers(one, now)]
    else:
        sentences += [_stood(one) for one in message.groups]
    if not message.groups:
        sentences.append(_no_group(status.group, message))
    return sentences


def _without_history(status: MailboxStatus, message: MessageHistory, now: float) -> list[str]:
    if message.state == "unknown":
        unknown = f"The broker has no record of message {message.msg_id} in {status.mail_address}"
        return [f"{unknown}. If it existed, its record has been removed since."]
    sentences = [f"No message in {status.mail_address} has the id {message.msg_id} yet."]
    if status.delayed:
        due = "" if status.next_due is None else f", the next {_at(status.next_due, now)}"
        sentences.append(
            f"{count(status.delayed, 'delayed message gets an id', 'delayed messages get ids')} "
            f"at the end of the delay{due}."
        )
    return sentences


def _begin(status: MailboxStatus, message: MessageHistory, now: float) -> list[str]:
    lane = f" with priority {message.priority.value}" if message.priority is not None else ""
    key = f" and the key {quoted(message.key)}" if message.key is not None else ""
    sent = f"Message {message.msg_id} in {status.mail_address} was sent{lane}{key}"
    if message.sent is not None:
        sent += f" {_at(message.sent, now)}"
    if message.sent is not None and message.visible is not None:
        is_delayed = message.visible - message.sent >= 1
        sent += f", delayed until {moment(message.visible, now)}" if is_delayed else ""
    if message.moved is None:
        return [f"{sent}."]
    came = message.moved
    before = f"It is a copy of message {came.msg_id} in {came.mailbox}"
    return [f"{sent}.", f"{before}, moved here {_move(came, now)}."]


def _end(status: MailboxStatus, message: MessageHistory, now: float) -> list[str]:
    since = "" if message.since is None else f" {_at(message.since, now)}"
    if message.state == "stored":
        ends = status.expires_at
        if message.expires is not None and (ends is None or message.expires <= ends):
            return [f"It is stored and expires {_at(message.expires, now)}."]
        if ends is not None:
            return [f"It is stored and expires with its mailbox {_at(ends, now)}."]
        return ["It is stored and does not expire."]
    if message.state == "replaced":
        newer = "a newer one" if message.replaced_by is None else f"message {message.replaced_by}"
        return [f"It is no longer stored: {newer} with the same key replaced it{since}."]
    reasons = {
        "expired": f"It is no longer stored: it expired{since}.",
        "deleted": f"It is no longer stored: it was deleted{since}.",
        "evicted": f"It is no longer stored: the mailbox was full and removed it{since}. "
        "All groups had finished with it.",
    }
    return [reasons.get(message.state, f"It is no longer stored ({quoted(message.state)}){since}.")]


_TURNS = {
    Occasion.START: "at the start of its session",
    Occasion.PROMPT: "with a prompt",
    Occasion.TOOL: "between two tool calls",
    Occasion.STOP: "at the end of its turn, which continued",
    Occasion.IDLE: "while idle, which started a turn",
}


def _noticed(message: MessageHistory, now: float) -> list[str]:
    """Return which hosts were notified of a message, and why a notice was delayed."""
    sentences: dict[tuple[str, str, str | None], str] = {}
    for one in message.notices:
        host = quoted(one.host)
        if one.held is None:
            after = max(0.0, one.at - (one.at if message.visible is None else message.visible))
            sentence = f"{host} was notified {span(after)} later, {_TURNS[one.occasion]}."
        else:
            sentence = f"The notice to {host} was delayed {_at(one.at, now)}: {_held(one)}."
        of_one = (one.host, one.session, one.held)
        sentences.pop(of_one, None)  # only the last of equal delays is reported
        sentences[of_one] = sentence
    return list(sentences.values())


def _held(notice: NoticeReceipt) -> str:
    limit = notice.limit or 0
    turns = count(limit, "automatic turn")
    reasons = {
        "sender": "no sender of its new mail may start a turn",
        "in a row": f"the limit is {turns} in a row",
        "per hour": f"the limit is {turns} an hour",
        "cooldown": f"less than {span(limit)} after the last automatic turn",
    }
    return reasons.get(notice.held or "", one_line(notice.held))


def _stands(standing: Standing, now: float) -> str:
    """Return the state of a stored message in a group."""
    group = f"Group {quoted(standing.group_name)}"
    times = count(standing.deliveries, "delivery", "deliveries")
    until = "" if standing.until is None else f" until {moment(standing.until, now)}"
    if standing.state == "pending":
        before = f"after {count(standing.ahead, 'other')}" if standing.ahead else "next"
        so_far = f", {times} without an ack" if standing.deliveries else ""
        return f"{group}: pending, {before}{so_far}."
    if standing.state == "leased":
        holder = quoted(standing.consumer)
        return f"{group}: leased by {holder}{until}, {times}. Then the next fetch gets it."
    if standing.state == "given_back":
        return f"{group}: given back, hidden{until}, {times}."
    if standing.state == "moved":
        how = "" if standing.moved is None else f" {_move(standing.moved, now)}"
        return f"{group}: moved to {_copy(standing)}{how}."
    if standing.state == "skipped":
        return (
            f"{group}: skipped, since the group started after this message. "
            "--force-deliver --deliver earliest starts the group again."
        )
    return f"{group}: {quoted(standing.state)}."


def _of_consumers(standing: Standing, now: float) -> list[str]:
    """Return the promise that a consumer made, and the reason why one gave the message back."""
    sentences = []
    promise = standing.promise
    if promise is not None:
        done = "" if promise.done is None else f" Done so far: {one_line(promise.done)}."
        until = moment(promise.until, now)
        sentences.append(f"{quoted(promise.by)} promised an answer by {until}.{done}")
    if standing.reason is not None:
        sentences.append(f"Reason for giving it back: {one_line(standing.reason)}.")
    return sentences


def _stood(standing: Standing) -> str:
    """Return the last state of a removed message in a group."""
    group = f"Group {quoted(standing.group_name)}"
    times = count(standing.deliveries, "delivery", "deliveries")
    if standing.state == "moved":
        return f"{group}: {times}, then moved to {_copy(standing)}."
    if not standing.deliveries:
        return f"{group}: acked."
    return f"{group}: {times}, {'acked' if standing.state == 'acked' else 'no ack'}."


def _copy(standing: Standing) -> str:
    return f"{standing.moved_to}, as message {standing.moved_as}"


def _move(moved: Moved, now: float) -> str:
    """Return when a message was moved, by whom and why."""
    by = "" if moved.by is None else f" by {known_as(moved.by, moved.by_verified)}"
    times = count(moved.deliveries, "delivery", "deliveries")
    why = "" if moved.reason is None else f": {one_line(moved.reason)}"
    return f"{_at(moved.at, now)}{by}, after {times} to group {quoted(moved.group)}{why}"


def _no_group(asked_for: GroupStatus | None, message: MessageHistory) -> str:
    stored = message.state == "stored"
    if asked_for is None:
        if not stored:
            return "The broker has no record of a delivery to a group."
        return "No group has fetched from this mailbox yet. A new group gets the message."
    group = f"Group {quoted(asked_for.group_name)}"
    if not asked_for.exists:
        sees = " When it does, it gets the message." if stored else ""
        return f"{group} has never fetched from this mailbox.{sees}"
    if stored:
        return f"{group}: unknown, since this mailbox has too many groups to list."
    return f"{group}: no delivery in the last hour."


def _at(instant: float, now: float) -> str:
    return f"at {moment(instant, now)}"
