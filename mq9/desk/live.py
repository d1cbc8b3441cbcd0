"""Server-sent events: that something has changed, so that open pages load their live parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import PlainTextResponse, Response

from mq9.client.client import Mq9Client
from mq9.clock import sleep
from mq9.desk.app import Visit, page
from mq9.desk.people import Person
from mq9.errors import Forbidden, Mq9Error

logger = logging.getLogger("mq9.desk")

_POLL_S = 1.0
_BLIND_S = 5.0
_PING_S = 15
_MOST_STREAMS = 20  # of one person


class Changes:
    """Looks once a second for each person whose pages are open, however many these are."""

    def __init__(self) -> None:
        self._streams: dict[Person, set[asyncio.Queue[str]]] = {}
        self._watching: dict[Person, asyncio.Task[None]] = {}

    def is_full(self, person: Person) -> bool:
        """Tell whether a person has as many streams as they may."""
        return len(self._streams.get(person, ())) >= _MOST_STREAMS

    async def of(self, visit: Visit) -> AsyncIterator[ServerSentEvent]:
        """Yield an event when something has changed."""
        person = visit.person
        queue: asyncio.Queue[str] = asyncio.Queue(1)  # one that is not read yet stands for more
        streams = self._streams.setdefault(person, set())
        streams.add(queue)
        try:
            position = await _position(visit.client)
            if person not in self._watching:
                watching = (
                    self._remind(person, visit.client)
                    if position is None
                    else self._watch(person, visit.client, position)
                )
                self._watching[person] = asyncio.create_task(watching)
            yield ServerSentEvent(event="hello", data="")
            while True:
                yield ServerSentEvent(event="changed", data=await queue.get())
        finally:
            streams.discard(queue)
            if not streams:
                self._streams.pop(person, None)
                if person in self._watching:
                    self._watching.pop(person).cancel()

    async def _remind(self, person: Person, client: Mq9Client) -> None:
        """Have pages look every few seconds, where the broker does not say what has changed."""
        while True:
            await sleep(client.clock, _BLIND_S)
            self._tell(person)

    def _tell(self, person: Person) -> None:
        """Have the open pages of a person look for themselves."""
        for queue in self._streams.get(person, ()):
            if queue.empty():
                queue.put_nowait("")

    async def _watch(self, person: Person, client: Mq9Client, seen: int) -> None:
        is_away = False
        while True:
            await sleep(client.clock, _POLL_S)
            try:
                found = await client.conversations(limit=1, if_changed_from=seen)
            except Mq9Error as error:
                if not is_away:
                    logger.warning("the desk cannot look for changes: %s", error)
                is_away = True
                continue
            if found.unchanged and not is_away and found.building is None:
                continue
            seen, is_away = found.position, False
            self._tell(person)


async def _position(client: Mq9Client) -> int | None:
    """Return how far the broker has come; None where it tells that to nobody it does not know."""
    try:
        return (await client.conversations(limit=1)).position
    except Forbidden:
        return None


_CHANGES = Changes()


async def events(visit: Visit) -> Response:
    """Stream events to one page."""
    if _CHANGES.is_full(visit.person):
        return PlainTextResponse("too many pages are open\n", 429)
    return EventSourceResponse(_CHANGES.of(visit), ping=_PING_S)


ROUTES = [page("/events", events)]
