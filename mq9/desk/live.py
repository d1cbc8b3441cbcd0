"""Server-sent events: that something has changed, so that open pages load their live parts."""

from __future__ import annotations

from sse_starlette import EventSourceResponse
from starlette.responses import PlainTextResponse, Response

from mq9.desk.app import Visit, page

_PING_S = 15


async def events(visit: Visit) -> Response:
    """Stream events to one page."""
    changes = visit.desk.changes
    if changes.is_full(visit.person):
        return PlainTextResponse("too many pages are open\n", 429)
    return EventSourceResponse(changes.of(visit.person, visit.client), ping=_PING_S)


ROUTES = [page("/events", events)]
