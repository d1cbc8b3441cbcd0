"""The JSON of the replies that list conversations, links and stuck messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from mq9.models import (
    Conversation,
    ConversationMessage,
    ConversationMessages,
    ConversationPage,
    Link,
    Participant,
    Progress,
    StuckMessage,
    StuckPage,
)
from mq9.protocol.outcomes import ReadMessage, ReadPart
from mq9.protocol.replies import (
    decode_message,
    encode_message,
    field,
    filled,
    moved_of,
    promise_of,
    read_messages,
    reading,
    standing_of,
    without_none,
)


def _page(page: Any, **items: list[Any]) -> dict[str, Any]:
    """Write the common fields of a page, and its items unless nothing has changed."""
    fields: dict[str, Any] = {"position": page.position}
    if page.unchanged:
        return fields | {"unchanged": True}
    fields |= items
    if page.more is not None:
        fields["more"] = page.more
    if page.building is not None:
        fields["building"] = dataclasses.asdict(page.building)
    return fields


def _progress(data: dict[str, int]) -> Progress:
    return filled(Progress, data)


def _each(kind: type[Any], **convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda items: tuple(filled(kind, one, **convert) for one in items)


def encode_conversations(page: ConversationPage) -> dict[str, Any]:
    """Write a page of conversations."""
    return _page(page, conversations=[without_none(one) for one in page.conversations])


@reading()
def decode_conversations(reply: dict[str, Any]) -> ConversationPage:
    """Read the reply to a CONVERSATION.LIST."""
    field(reply, "position")
    conversations = _each(
        Conversation,
        mailboxes=tuple,
        participants=lambda items: tuple(
            Participant(one.get("name"), one.get("verified", False)) for one in items
        ),
    )
    return filled(ConversationPage, reply, conversations=conversations, building=_progress)


def encode_conversation(part: ReadPart, *, as_base64: bool) -> dict[str, Any]:
    """Write a part of a conversation."""
    return _page(part, messages=[_read_message(one, as_base64=as_base64) for one in part.messages])


def _read_message(read: ReadMessage, *, as_base64: bool) -> dict[str, Any]:
    item = encode_message(read.stored, as_base64=as_base64)
    item["mail_address"] = read.mail_address
    if read.standing is not None:
        item["standing"] = without_none(read.standing)
    if read.in_reply_to is not None:
        address, msg_id = read.in_reply_to
        item["in_reply_to"] = {"mail_address": address, "msg_id": msg_id}
    if read.due is not None:
        item["due"] = read.due
    return item


@reading()
def decode_conversation(reply: dict[str, Any]) -> ReadPart:
    """Read the reply to a CONVERSATION.READ."""
    field(reply, "position")
    return filled(
        ReadPart,
        reply,
        messages=lambda items: tuple(map(_decode_read, items)),
        building=_progress,
    )


def _decode_read(item: dict[str, Any]) -> ReadMessage:
    question = item.get("in_reply_to")
    standing = item.get("standing")
    return ReadMessage(
        mail_address=item["mail_address"],
        stored=decode_message(item),
        standing=None if standing is None else standing_of(standing),
        in_reply_to=None if question is None else (question["mail_address"], question["msg_id"]),
        due=item.get("due"),
    )


def messages_of(part: ReadPart) -> ConversationMessages:
    """Return a part of a conversation as the client shows it."""
    return ConversationMessages(
        messages=tuple(
            ConversationMessage(
                message=next(
                    read_messages(
                        [one.stored], mail_address=one.mail_address, standing=one.standing
                    )
                ),
                standing=one.standing,
                in_reply_to=one.in_reply_to,
                due=one.due,
            )
            for one in part.messages
        ),
        more=part.more,
        building=part.building,
        position=part.position,
        unchanged=part.unchanged,
    )


def encode_links(links: tuple[Link, ...]) -> dict[str, Any]:
    """Write the links between senders and mailboxes."""
    return {"links": [without_none(one) for one in links]}


@reading()
def decode_links(reply: dict[str, Any]) -> tuple[Link, ...]:
    """Read the reply to a CONVERSATION.LINKS."""
    return tuple(filled(Link, one) for one in field(reply, "links"))


def encode_stuck(page: StuckPage) -> dict[str, Any]:
    """Write a page of stuck messages."""
    fields = _page(page, items=[without_none(one) for one in page.items])
    return fields if page.unchanged else fields | {"counts": page.counts}


@reading()
def decode_stuck(reply: dict[str, Any]) -> StuckPage:
    """Read the reply to a STUCK.LIST."""
    field(reply, "position")
    return filled(
        StuckPage,
        reply,
        items=_each(StuckMessage, moved=moved_of, promise=promise_of),
        building=_progress,
    )
