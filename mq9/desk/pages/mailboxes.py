"""Mailboxes, the messages of one, one message with its story, and the search of every page."""

from __future__ import annotations

import re

from starlette.responses import RedirectResponse, Response

from mq9.cli.message_history import story_of
from mq9.cli.settling import Place
from mq9.client.error_answers import ErrorAnswer
from mq9.desk.app import Visit, page
from mq9.desk.fields import item_of, mailbox, number, word
from mq9.desk.pages.stuck import WHATS
from mq9.desk.showing import body_of, link, registered
from mq9.errors import InvalidRequest, MessageNotFound
from mq9.models import Message, Standing
from mq9.protocol.requests import STATES

_AT_ONCE = 50
_BYTES_AT_ONCE = 1024 * 1024
_SUMMARY_CHARS = 300
_HITS = 20  # of each kind in a search
_PLACE = re.compile(r"([a-z0-9]+(?:\.[a-z0-9]+)*)[/# ]+(\d{1,15})", re.ASCII)


async def mailboxes(visit: Visit) -> Response:
    """List mailboxes by address, with what waits in each."""
    asked = visit.request.query_params
    text, after = word(asked, "text"), word(asked, "after")
    page = await visit.client.mailbox_list_own(text=text, after=after, details=True, limit=_AT_ONCE)
    last = page.mailboxes[-1].mail_address if page.mailboxes else None
    return visit.render(
        "mailboxes.html",
        mailboxes=page.mailboxes,
        text=text,
        is_first=after is None,
        next=link("/desk/mailboxes", text=text, after=last) if page.more else None,
    )


async def one_mailbox(visit: Visit) -> Response:
    """Show a mailbox and a page of its messages, the newest first; the URL has the filters."""
    asked, client = visit.request.query_params, visit.client
    address = mailbox(asked)
    filters = {name: word(asked, name) for name in ("key", "tag", "correlation", "state")}
    group = word(asked, "group") or address
    before = number(asked, "before")
    status = await client.mailbox_status(address, group_name=group)
    found = await client.query(
        address,
        key=filters["key"],
        tags=None if filters["tag"] is None else [filters["tag"]],
        correlation_id=filters["correlation"],
        since=number(asked, "since"),
        limit=_AT_ONCE,
        max_bytes=_BYTES_AT_ONCE,
        group_name=group,
        state=filters["state"],
        before_id=before,
    )
    here = {"mailbox": address, "group": word(asked, "group"), "since": word(asked, "since")}
    return visit.render(
        "mailbox.html",
        address=address,
        found=status,
        messages=[(one, body_of(one.payload, _SUMMARY_CHARS)) for one in reversed(found)],
        filters={**filters, "group": word(asked, "group"), "since": word(asked, "since")},
        states=STATES,
        registered=await registered(client, {one.sender for one in found}),
        is_filtered=any(filters.values()) or before is not None,
        older=link("/desk/mailboxes/one", **here, **filters, before=found[0].msg_id)
        if found.more
        else None,
    )


async def one_message(visit: Visit) -> Response:
    """Show a message with all its fields and its story; of one that is gone, the story alone."""
    asked, client = visit.request.query_params, visit.client
    address, msg_id = mailbox(asked), number(asked, "id")
    if msg_id is None:
        raise InvalidRequest("id: it is missing")
    history, story = await story_of(client, address, msg_id)
    found = await client.query(address, msg_id=msg_id)
    message = found[0] if found else None
    if message is None and history.state in {"unassigned", "unknown"}:
        raise MessageNotFound(f"message not found: {' '.join(story)}")
    is_dead = message is not None and message.moved is not None
    return visit.render(
        "message.html",
        address=address,
        msg_id=msg_id,
        message=message,
        body=None if message is None else body_of(message.payload),
        failed=None if message is None else ErrorAnswer.read(message),
        story=story,
        registered=frozenset() if message is None else await registered(client, {message.sender}),
        choices=[] if message is None else _choices(message, history.groups, is_dead=is_dead),
        conversation=link("/desk/conversations/one", id=f"/{address}/{msg_id}"),
        back=link("/desk/mailboxes/message", mailbox=address, id=msg_id),
    )


def _choices(
    message: Message, groups: tuple[Standing, ...], *, is_dead: bool
) -> list[tuple[str, str]]:
    """Return what can be done about a message: labels and links to the pages that ask first."""
    place = Place(message.mail_address, message.msg_id)
    back = link("/desk/mailboxes/message", mailbox=message.mail_address, id=message.msg_id)
    wanted = [("redrive", place)] if is_dead else []
    for one in groups:
        at = Place(message.mail_address, message.msg_id, one.group_name)
        if one.state == "leased":
            wanted += [(name, at) for name in ("stop", "give_back", "error", "drop")]
        elif one.state in {"pending", "given_back"} and one.deliveries:
            wanted += [(name, at) for name in ("error", "drop")]
    if not any(name == "drop" for name, _ in wanted):
        wanted += [("error", place), ("drop", place)]
    several = len({at.group_name for _, at in wanted}) > 1
    return [
        (
            WHATS[name].label + (f" ({at.group_name})" if several and at.group_name else ""),
            link("/desk/stuck/settle", what=name, item=item_of(at), back=back),
        )
        for name, at in wanted
    ]


async def body(visit: Visit) -> Response:
    """Give the body of a message byte for byte, as a download."""
    asked = visit.request.query_params
    address, msg_id = mailbox(asked), number(asked, "id")
    found = await visit.client.query(address, msg_id=msg_id) if msg_id is not None else []
    if not found:
        raise MessageNotFound(f"message not found: it is not in {address}")
    headers = {
        "Content-Disposition": f'attachment; filename="{address}-{msg_id}.bin"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(found[0].payload, media_type="application/octet-stream", headers=headers)


async def search(visit: Visit) -> Response:
    """Find agents, mailboxes and conversations; open a message by its full name."""
    client, text = visit.client, word(visit.request.query_params, "q")
    if text is None:
        return visit.render("search.html", q="", agents=[], mailboxes=[], page=None)
    named = _PLACE.fullmatch(text)
    if named is not None:
        return RedirectResponse(
            link("/desk/mailboxes/message", mailbox=named[1], id=int(named[2])), 303
        )
    found = await client.mailbox_list_own(text=text, limit=_HITS)
    return visit.render(
        "search.html",
        q=text,
        agents=await client.agent_discover(semantic=text, limit=_HITS),
        mailboxes=found.mailboxes,
        page=await client.conversations(text=text, limit=_HITS),
    )


ROUTES = (
    page("/mailboxes", mailboxes),
    page("/mailboxes/one", one_mailbox),
    page("/mailboxes/message", one_message),
    page("/mailboxes/body", body),
    page("/search", search),
)
