"""Events for open pages: something has changed. At most one a second."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator

from sse_starlette import ServerSentEvent

from mq9.client.client import Mq9Client
from mq9.clock import sleep
from mq9.desk.people import Person
from mq9.errors import Forbidden, MailboxNotFound, Mq9Error

logger = logging.getLogger("mq9.desk")

_POLL_S = 1.0
_MOST_STREAMS = 20  # of one person


class Changes:
    """Looks once a second for each person whose pages are open, however many these are."""

    def __init__(self) -> None:
        self._streams: dict[Person, set[asyncio.Queue[str]]] = {}
        self._watching: dict[Person, asyncio.Task[None]] = {}

    def is_full(self, person: Person) -> bool:
        """Return whether a person has the maximum number of streams."""
        return len(self._streams.get(person, ())) >= _MOST_STREAMS

    async def of(self, person: Person, client: Mq9Client) -> AsyncIterator[ServerSentEvent]:
        """Yield an event when something has changed."""
        queue: asyncio.Queue[str] = asyncio.Queue(1)  # one that is not read yet stands for more
        streams = self._streams.setdefault(person, set())
        streams.add(queue)
        try:
            seen, _ = await _look(person, client, None)
            if person not in self._watching:
                watching = self._watch(person, client, seen)
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

    async def _watch(self, person: Person, client: Mq9Client, seen: int | None) -> None:
        is_away = False
        while True:
            await sleep(client.clock, _POLL_S)
            try:
                seen, is_changed = await _look(person, client, seen)
            except Mq9Error as error:
                if not is_away:
                    logger.warning("the desk cannot look for changes: %s", error)
                is_away = True
                continue
            if not is_changed and not is_away:
                continue
            is_away = False
            for queue in self._streams.get(person, ()):
                if queue.empty():
                    queue.put_nowait("")


async def _look(person: Person, client: Mq9Client, seen: int | None) -> tuple[int | None, bool]:
    """Return how far the broker has come, and whether that is further than was seen.

    A server without users lists nothing. There the person's own mailbox is looked at.
    """
    try:
        found = await client.conversations(limit=1, if_changed_from=seen)
    except Forbidden:
        position = await _position_of(person.mail_address, client)
        return position, position != seen
    return found.position, not found.unchanged or found.building is not None


async def _position_of(mail_address: str | None, client: Mq9Client) -> int | None:
    """Return a number that differs when a mailbox has got or lost a message."""
    if mail_address is None:
        return None
    try:
        status = await client.mailbox_status(mail_address)
    except MailboxNotFound:
        return None
    removed: int = sum(dataclasses.astuple(status.removed))
    return 2 * removed + status.stored
