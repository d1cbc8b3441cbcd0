"""Conversations: the list, one of them, what a person writes in it, and a file of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from starlette.responses import Response

from mq9.cli.output import count, known_as, quoted, span
from mq9.cli.settling import Place
from mq9.client.client import Mq9Client
from mq9.client.error_answers import ErrorAnswer
from mq9.desk.app import Visit, action, page
from mq9.desk.fields import item_of, mailbox, place_of, required, word
from mq9.desk.showing import Body, Threaded, body_of, link, registered, threaded
from mq9.desk.text import promised
from mq9.errors import InvalidRequest, MessageNotFound, Mq9Error
from mq9.models import (
    CONVERSATION,
    CONVERSATION_STATES,
    QUESTION_TAG,
    Conversation,
    ConversationMessage,
    Message,
    Standing,
)
from mq9.operations.conversations import extended
from mq9.operations.message_views import visible

_AT_ONCE = 300  # messages of a page
_BYTES_AT_ONCE = 4 * 1024 * 1024
_MOST_SAVED = 10_000  # messages of a file
_SAVED_CHARS = 200_000  # of each body in it


async def conversations(visit: Visit) -> Response:
    """List conversations, the latest first; the URL has the filters."""
    asked = visit.request.query_params
    filters = {name: word(asked, name) for name in ("agent", "mailbox", "state", "text")}
    before = word(asked, "before")
    page = await visit.client.conversations(
        agent=filters["agent"],
        mail_address=filters["mailbox"],
        state=filters["state"],
        text=filters["text"],
        before=before,
        limit=50,
    )
    names = {who.name for one in page.conversations for who in one.participants}
    return visit.render(
        "conversations.html",
        page=page,
        filters=filters,
        states=CONVERSATION_STATES,
        is_filtered=any(filters.values()) or before is not None,
        older=page.more and link("/desk/conversations", **filters, before=page.more),
        registered=await registered(visit.client, names),
        state_told=lambda one: _state(one, visit.client.clock.now_ms() / 1000),
    )


def _state(one: Conversation, now: float) -> str:
    """Return in a few words what a conversation waits for, or how it ended."""
    since = "" if one.since is None else f" since {span(max(0.0, now - one.since))}"
    times = f", delivered {count(one.deliveries, 'time')}" if one.deliveries > 1 else ""
    why = "" if one.reason is None else f": {visible(one.reason[:200])}"
    match one.state:
        case "waiting":
            return f"for {one.waiting_for}{since}{times}"
        case "leased":
            holder = visible(quoted(one.holder or "somebody"))
            return f"by {holder} in {one.waiting_for}{since}{times}"
        case "retrying":
            return f"in {one.waiting_for}{since}{times}{why}"
        case "dead":
            return f"in {one.waiting_for}{since}{why}"
        case "delayed":
            return f"for {one.waiting_for}"
        case _:
            return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A message as the page of its conversation shows it.

    Attributes:
        message: The message.
        body: Its body as text.
        depth: Its depth below the first question of the page.
        anchor: The fragment of a link to it.
        stands: Its state in its group, in words.
        failed: The reason, if it is an error answer.
        held: Its name in a form while its run can be stopped.
        above: The link to the message that it answers.
    """

    message: Message
    body: Body
    depth: int
    anchor: str
    stands: str
    failed: ErrorAnswer | None
    held: str | None
    above: str | None


def _shown(one: Threaded, now: float, most: int) -> Shown:
    message, standing = one.entry.message, one.entry.standing
    above = one.entry.in_reply_to
    held = None
    if standing is not None and standing.state == "leased":
        held = item_of(
            Place(
                mail_address=message.mail_address,
                msg_id=message.msg_id,
                group_name=standing.group_name,
            )
        )
    return Shown(
        message=message,
        body=body_of(message.payload, most),
        depth=one.depth,
        anchor=_anchor(message.mail_address, message.msg_id),
        stands=_stands(one.entry, answered=one.answered, now=now),
        failed=ErrorAnswer.read(message),
        held=held,
        above=None if above is None else _anchor(*above),
    )


def _item(message: Message) -> str:
    return item_of(Place(mail_address=message.mail_address, msg_id=message.msg_id))


def _anchor(mail_address: str, msg_id: int) -> str:
    return f"m-{mail_address}-{msg_id}"


def _stands(entry: ConversationMessage[Message], *, answered: bool, now: float) -> str:
    """Say in a few words how a message stands."""
    standing, moved = entry.standing, entry.message.moved
    if entry.due is not None:
        return f"delayed: visible in {span(max(0.0, entry.due - now))}"
    if moved is not None and not moved.back:
        why = "" if moved.reason is None else f": {visible(moved.reason[:300])}"
        return f"dead letter from {moved.mailbox}{why}"
    if standing is None:
        return ""
    if answered and standing.state != "leased":
        return "answered"
    until = "" if standing.promise is None else f"; {promised(standing.promise, now)}"
    return _standing(standing, now) + until


def _standing(standing: Standing, now: float) -> str:
    times = count(standing.deliveries, "time")
    left = "" if standing.until is None else f" for another {span(max(0.0, standing.until - now))}"
    because = "" if standing.reason is None else f": {visible(standing.reason[:300])}"
    match standing.state:
        case "pending":
            again = f", delivered {times} before{because}" if standing.deliveries else ""
            return f"waits for {standing.group_name}{again}"
        case "leased":
            holder = visible(quoted(standing.consumer or "somebody"))
            return f"leased by {holder}{left}, delivered {times}"
        case "given_back":
            return f"will be tried again, kept back{left}, delivered {times}{because}"
        case "moved":
            return f"moved to {standing.moved_to} as message {standing.moved_as}"
        case state:
            return state


async def conversation(visit: Visit) -> Response:
    """Show the messages of one conversation, each reply below its question."""
    asked = visit.request.query_params
    id_ = required(asked, "id")
    client = visit.client
    part = await client.conversation(
        id_, after=word(asked, "after"), limit=_AT_ONCE, max_bytes=_BYTES_AT_ONCE
    )
    now = client.clock.now_ms() / 1000
    senders = {(one.message.sender, one.message.sender_verified) for one in part.messages}
    return visit.render(
        "conversation.html",
        id=id_,
        part=part,
        messages=[_shown(one, now, 20_000) for one in threaded(part.messages)],
        senders=sorted(senders, key=lambda who: (who[0] or "", who[1])),
        mailboxes=sorted({one.message.mail_address for one in part.messages}),
        registered=await registered(client, {name for name, _ in senders}),
        is_first=word(asked, "after") is None,
        next=part.more and link("/desk/conversations/one", id=id_, after=part.more),
        saved=link("/desk/conversations/saved", id=id_),
        item=_item,
    )


async def saved(visit: Visit) -> Response:
    """Give a conversation as one HTML file, which needs nothing else and runs nothing."""
    id_ = required(visit.request.query_params, "id")
    client = visit.client
    entries: list[ConversationMessage[Message]] = []
    after: str | None = None
    while len(entries) < _MOST_SAVED:
        part = await client.conversation(id_, after=after, limit=_AT_ONCE)
        entries += part.messages
        after = part.more
        if after is None:
            break
    if not entries:
        raise MessageNotFound("message not found: this conversation has no messages")
    now = client.clock.now_ms() / 1000
    senders = {one.message.sender for one in entries}
    response = visit.render(
        "conversation_file.html",
        messages=[_shown(one, now, _SAVED_CHARS) for one in threaded(entries)],
        registered=await registered(client, senders),
        is_whole=after is None,
    )
    name = re.sub(r"[^a-z0-9.-]+", "-", id_.lower()).strip("-.")[:60] or "conversation"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.html"'
    response.headers["Content-Security-Policy"] = _FILE_POLICY
    return response


_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


async def compose(visit: Visit) -> Response:
    """Show the form of a message: a new one, an answer, or one that is forwarded."""
    visit.refuse_readers()
    asked = visit.request.query_params
    answers, forwards = word(asked, "answers"), word(asked, "forwards")
    kind = "answers" if answers else "forwards" if forwards else "new"
    return await _form(visit, kind, answers or forwards, to=word(asked, "to"))


async def _form(
    visit: Visit,
    kind: str,
    item: str | None,
    *,
    to: str | None = None,
    written: str = "",
    problem: str = "",
) -> Response:
    client = visit.client
    about = None if item is None else await _stored(client, item)
    if kind == "answers" and about is not None:
        to = await _where_to(client, about)
    return visit.render(
        "compose.html",
        status=400 if problem else 200,
        about=about,
        body=None if about is None else body_of(about.payload),
        kind=kind,
        item=item,
        to=to,
        is_question=about is not None and QUESTION_TAG in about.tags,
        id=client.new_id(),
        written=written,
        problem=problem,
        back=link("/desk/conversations/one", id=f"/{item}") if item else "/desk/conversations",
    )


async def _stored(client: Mq9Client, item: str) -> Message:
    """Return the message that a form names."""
    place = place_of(item)
    found = await client.query(place.mail_address, msg_id=place.msg_id)
    if not found:
        raise MessageNotFound(f"message not found: {place} is no longer stored")
    return found[0]


async def _where_to(client: Mq9Client, message: Message) -> str | None:
    """Return the mailbox for the answer to a message; None if unknown."""
    if message.reply_to is not None or message.sender is None:
        return message.reply_to
    [sender] = await client.agent_lookup([message.sender])
    return sender.mailbox


async def _answer(visit: Visit, item: str, given: Mapping[str, str]) -> str:
    """Send an answer, which stays in the conversation of its question."""
    message = await _stored(visit.client, item)
    to = await _where_to(visit.client, message)
    if to is None:
        raise InvalidRequest(f"answers: message {message.msg_id} does not say where to answer")
    return await _send(visit, to, _text(given), given, message)


async def _forward(visit: Visit, item: str, given: Mapping[str, str]) -> str:
    """Forward a message; its answer goes to the first sender."""
    message = await _stored(visit.client, item)
    note = given.get("body", "").strip()
    payload: str | bytes = message.payload
    if note:
        try:
            text = message.text
        except UnicodeDecodeError:
            raise InvalidRequest(
                "body: the message is not text; forward it without words of your own"
            ) from None
        by = known_as(message.sender or "nobody named", message.sender_verified)
        payload = f"{note}\n\nForwarded: message {message.msg_id} of {message.mail_address}"
        payload += f", from {by}:\n\n{text}"
    return await _send(
        visit, mailbox(given, "to"), payload, given, message, reply_to=message.reply_to
    )


async def _new(visit: Visit, _item: str, given: Mapping[str, str]) -> str:
    """Send a message that begins a conversation."""
    return await _send(visit, mailbox(given, "to"), _text(given), given)


def _text(given: Mapping[str, str]) -> str:
    text = given.get("body", "").replace("\r\n", "\n")
    if not text.strip():
        raise InvalidRequest("body: it is empty; write the message")
    return text


async def _send(
    visit: Visit,
    to: str,
    payload: str | bytes,
    given: Mapping[str, str],
    about: Message | None = None,
    reply_to: str | None = None,
) -> str:
    """Send a message once, however often its form is sent; return a sentence about it."""
    header = None if about is None else about.headers.get(CONVERSATION)
    id_ = required(given, "id")
    msg_id = await visit.client.send(
        to,
        payload,
        id=f"desk.{id_}",
        sender=visit.person.name,
        correlation_id=f"desk.{id_}" if about is None else about.correlation_id,
        reply_to=reply_to if about is not None else visit.person.mail_address,
        headers=None if header is None else {CONVERSATION: header},
        path=None if about is None else extended(about.path, visit.person.name),
    )
    return f"Sent to {to}, as message {msg_id}."


async def send(visit: Visit) -> str | Response:
    """Send the text of a person in their name; show it again if that fails."""
    given = visit.form.fields
    kind, item = word(given, "kind") or "", word(given, "item")
    if kind not in _SENDING or (kind == "new") is not (item is None):
        raise InvalidRequest(f"kind: {kind!r} is not new, or answers or forwards with an item")
    try:
        return await _SENDING[kind](visit, item or "", given)
    except Mq9Error as error:
        written, to = given.get("body", ""), word(given, "to")
        return await _form(visit, kind, item, to=to, written=written, problem=str(error))


_SENDING = {"answers": _answer, "forwards": _forward, "new": _new}

ROUTES = (
    page("/conversations", conversations),
    page("/conversations/one", conversation),
    page("/conversations/saved", saved),
    page("/conversations/write", compose),
    action("/conversations/send", send),
)
