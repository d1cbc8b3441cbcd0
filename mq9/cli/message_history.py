"""``mq9 why``: what happened to a message, and where it stands with consumer groups."""

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

_UNHEARD_OF = ("unassigned", "unknown")


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
    return NOTHING_THERE if message.state in _UNHEARD_OF else 0


async def story_of(
    client: Mq9Client, address: str, msg_id: int, group: str | None = None
) -> tuple[MessageHistory, list[str]]:
    """Ask the broker what happened to a message; return that, and the same as sentences.

    Args:
        client: Whose request it is.
        address: The mailbox.
        msg_id: The message.
        group: Tell only where it stands with this consumer group. Default: with all groups.
    """
    status = await client.mailbox_status(address, group_name=group, msg_id=msg_id)
    now = client.clock.now_ms() / 1000
    message = status.message
    if message is None:  # not every broker tells of single messages
        message = MessageHistory(msg_id=msg_id, state="unknown")
    if group is not None:
        message = dataclasses.replace(
            message, groups=tuple(one for one in message.groups if one.group_name == group)
        )
    return message, tell(status, message, now)


def tell(status: MailboxStatus, message: MessageHistory, now: float) -> list[str]:
    """Return what happened to a message as sentences."""
    if message.state in _UNHEARD_OF:
        return _unheard_of(status, message, now)
    sentences = [
        *_begin(status, message, now),
        *_end(status, message, now),
        *_noticed(message, now),
    ]
    if message.answer_by is not None:
        sentences.append(f"Its sender wants an answer by {moment(message.answer_by, now)}.")
    if message.state == "stored":
        for one in message.groups:
            sentences += [_stands(one, now), *_told(one, now)]
    else:
        sentences += [_stood(one) for one in message.groups]
    if not message.groups:
        sentences.append(_no_group(status.group, message))
    return sentences


def _unheard_of(status: MailboxStatus, message: MessageHistory, now: float) -> list[str]:
    if message.state == "unknown":
        told = f"Nothing is known of message {message.msg_id} in {status.mail_address}"
        return [f"{told}: if it was there, it went so long ago that nobody remembers."]
    sentences = [f"No message in {status.mail_address} has had the id {message.msg_id} yet."]
    if status.delayed:
        due = "" if status.next_due is None else f", the next {_at(status.next_due, now)}"
        sentences.append(
            f"{count(status.delayed, 'message waits', 'messages wait')} for the end of a delay and "
            f"will be given an id then{due}."
        )
    return sentences


def _begin(status: MailboxStatus, message: MessageHistory, now: float) -> list[str]:
    lane = f"{message.priority.value} " if message.priority is not None else ""
    key = f" under the key {quoted(message.key)}" if message.key is not None else ""
    told = f"{lane}message {message.msg_id} in {status.mail_address} was sent{key}"
    told = told[:1].upper() + told[1:]
    if message.sent is not None:
        told += f" {_at(message.sent, now)}"
    if message.sent is not None and message.visible is not None:
        is_delayed = message.visible - message.sent >= 1
        told += f", delayed until {moment(message.visible, now)}" if is_delayed else ""
    if message.moved is None:
        return [f"{told}."]
    came = message.moved
    before = f"It is a copy of message {came.msg_id} in {came.mailbox}"
    return [f"{told}.", f"{before}, moved here {_move(came, now)}."]


def _end(status: MailboxStatus, message: MessageHistory, now: float) -> list[str]:
    since = "" if message.since is None else f" {_at(message.since, now)}"
    if message.state == "stored":
        ends = status.expires_at
        if message.expires is not None and (ends is None or message.expires <= ends):
            return [f"It is stored and expires {_at(message.expires, now)}."]
        if ends is not None:
            return [f"It is stored and goes with its mailbox {_at(ends, now)}."]
        return ["It is stored and does not expire."]
    if message.state == "replaced":
        newer = "a newer one" if message.replaced_by is None else f"message {message.replaced_by}"
        return [f"It is no longer stored: {newer} took its key{since}."]
    reasons = {
        "expired": f"It is no longer stored: it expired{since}.",
        "deleted": f"It is no longer stored: somebody deleted it{since}.",
        "evicted": f"It is no longer stored: it made room in the full mailbox{since}, "
        "when every group was done with it.",
    }
    return [reasons.get(message.state, f"It is no longer stored ({quoted(message.state)}){since}.")]


_TURNS = {
    Occasion.START: "at the start of its session",
    Occasion.PROMPT: "with a prompt",
    Occasion.TOOL: "between two tool calls",
    Occasion.STOP: "its turn went on",
    Occasion.IDLE: "woke it",
}


def _noticed(message: MessageHistory, now: float) -> list[str]:
    """Say which hosts were told of a message, and what kept it from them for some time."""
    sentences: dict[tuple[str, str, str | None], str] = {}
    for one in message.notices:
        host = quoted(one.host)
        if one.held is None:
            after = max(0.0, one.at - (one.at if message.visible is None else message.visible))
            told = f"Noticed by {host} {span(after)} later ({_TURNS[one.occasion]})."
        else:
            told = f"Held back from {host} {_at(one.at, now)}: {_held(one)}."
        of_one = (one.host, one.session, one.held)
        sentences.pop(of_one, None)  # it is said once that it was held back again and again
        sentences[of_one] = told
    return list(sentences.values())


def _held(notice: NoticeReceipt) -> str:
    limit = notice.limit or 0
    turns = count(limit, "automatic turn")
    reasons = {
        "sender": "no sender of new mail may wake it",
        "in a row": f"{turns} in a row",
        "per hour": f"{turns} within an hour",
        "cooldown": f"less than {span(limit)} after the last automatic turn",
    }
    return reasons.get(notice.held or "", one_line(notice.held))


def _stands(standing: Standing, now: float) -> str:
    """Say whether a group sees a stored message, and why."""
    group = f"Group {quoted(standing.group_name)}"
    times = f"given it {count(standing.deliveries, 'time')}"
    until = "" if standing.until is None else f" until {moment(standing.until, now)}"
    if standing.state == "pending":
        before = f", after {count(standing.ahead, 'other')}" if standing.ahead else ", next"
        so_far = f"; it was {times} and did not ack" if standing.deliveries else ""
        return f"{group} sees it: pending{before}{so_far}."
    if standing.state == "leased":
        holder = quoted(standing.consumer)
        return (
            f"{group} does not see it: leased by {holder}{until}, having been {times}; then "
            "it goes to whoever fetches."
        )
    if standing.state == "given_back":
        return f"{group} does not see it: given back, and kept from everybody{until}; {times}."
    if standing.state == "moved":
        how = "" if standing.moved is None else f" {_move(standing.moved, now)}"
        return f"{group} does not see it: moved to {_copy(standing)}{how}."
    reasons = {
        "acked": "acked",
        "skipped": "it is older than the group, which started behind it; "
        "--force-deliver --deliver earliest starts the group again",
    }
    if standing.state in reasons:
        return f"{group} does not see it: {reasons[standing.state]}."
    return f"{group}: {quoted(standing.state)}."


def _told(standing: Standing, now: float) -> list[str]:
    """Say what the group's consumers told of a message: a promise, and why it came back."""
    told = []
    promise = standing.promise
    if promise is not None:
        done = "" if promise.done is None else f", having done: {one_line(promise.done)}"
        told.append(f"{quoted(promise.by)} has promised it by {moment(promise.until, now)}{done}.")
    if standing.reason is not None:
        told.append(f"It was given back because: {one_line(standing.reason)}.")
    return told


def _stood(standing: Standing) -> str:
    """Say what a group had done with a message that is no longer stored."""
    group = f"Group {quoted(standing.group_name)}"
    times = f"was given it {count(standing.deliveries, 'time')}"
    if standing.state == "moved":
        return f"{group} {times} and moved it to {_copy(standing)}."
    acked = "and acked it" if standing.state == "acked" else "and did not ack it"
    return f"{group} {times} {acked}." if standing.deliveries else f"{group} had acked it."


def _copy(standing: Standing) -> str:
    return f"{standing.moved_to}, as message {standing.moved_as}"


def _move(moved: Moved, now: float) -> str:
    """Say when a message was moved, by whom and why."""
    told = _at(moved.at, now)
    if moved.by is not None:
        told += f" by {known_as(moved.by, moved.by_verified)}"
    told += f", after group {quoted(moved.group)} was given it {count(moved.deliveries, 'time')}"
    return told if moved.reason is None else f"{told}: {one_line(moved.reason)}"


def _no_group(asked_for: GroupStatus | None, message: MessageHistory) -> str:
    stored = message.state == "stored"
    if asked_for is None:
        if not stored:
            return "Nothing is known of a group that was given it."
        return "No group has fetched here yet: a new one sees it."
    group = f"Group {quoted(asked_for.group_name)}"
    if not asked_for.exists:
        sees = "; when it does, it sees the message" if stored else ""
        return f"{group} does not exist here: it has never fetched{sees}."
    if stored:
        return f"{group} is one of too many to be told apart here."
    return f"{group} was not given it, or that is more than an hour ago."


def _at(instant: float, now: float) -> str:
    return f"at {moment(instant, now)}"
