"""Answers to listings: update the index of conversations, then read it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from sqlite3 import Connection
from typing import Any, TypeVar

from mq9.engine import messages, state
from mq9.engine.commands import Call
from mq9.engine.messages import Outdated
from mq9.errors import Unavailable
from mq9.listings import conversations, index, own, reading, stuck
from mq9.listings.index import ToDo
from mq9.models import ConversationPage, Link, MailboxPage, Progress, StuckPage
from mq9.protocol.body import Body
from mq9.protocol.outcomes import ReadPart
from mq9.protocol.requests import (
    ListConversations,
    ListLinks,
    ListMailboxes,
    ListStuck,
    ReadConversation,
)
from mq9.storage.backend import Backend, DerivedQuery, LocalChange

R = TypeVar("R")
MOST_S = 0.5  # that one request builds the index; the next request continues
_ROUNDS = 3  # reads of one request, repeated if the state changes in between
_MOST_GONE = 500  # conversations that one request cleans up
_MOST_ADVANCED = 50  # mailboxes with due messages that one request advances


class _ToDo:
    """Search for messages that the index lacks, once due messages are visible."""

    def __init__(self, complete_at: int | None) -> None:
        self._complete_at = complete_at
        self._has_looked = False

    def __call__(self, db: Connection, now: int) -> ToDo:
        if not self._has_looked:
            self._has_looked = True
            due = messages.due_mailboxes(db, now, _MOST_ADVANCED)
            if due:
                raise Outdated(*due)
        position = state.position(db).applied
        is_complete = position == self._complete_at and index.is_usable(db)
        return ToDo(position) if is_complete else index.to_do(db)


class Listings:
    """Listings of conversations, links, stuck messages, and mailboxes with details.

    Of concurrent requests in a process, one builds the index. The others answer from its present
    content.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._building = threading.Lock()
        self._complete_at: int | None = None  # position of the state when the index was complete
        self.answers: dict[type[Body[Any]], Callable[[Call[Any]], Awaitable[Any]]] = {
            ListConversations: self.conversations,
            ReadConversation: self.conversation,
            ListLinks: self.links,
            ListStuck: self.stuck,
            ListMailboxes: self.mailboxes,
        }

    async def conversations(self, call: Call[ListConversations]) -> ConversationPage:
        """Return a page of conversations."""
        request = call.request
        position = await self._unchanged(call)
        if position is not None:
            return ConversationPage(position=position, unchanged=True)
        listed = await self._read(
            lambda db, now, building: conversations.page(db, request, call.actor, now, building),
            lambda listed: listed.page.position,
        )
        if listed.gone:
            gone = listed.gone[:_MOST_GONE]
            await self._change(lambda db: index.forget_gone(db, gone))
        return listed.page

    async def conversation(self, call: Call[ReadConversation]) -> ReadPart:
        """Return a part of a conversation."""
        request = call.request
        position = await self._unchanged(call)
        if position is not None:
            return ReadPart(position=position, unchanged=True)
        return await self._read(
            lambda db, now, building: reading.read(
                db, request, call.actor, now, building, as_text=call.as_text
            ),
            lambda part: part.position,
        )

    async def links(self, call: Call[ListLinks]) -> tuple[Link, ...]:
        """Return the pairs of senders and mailboxes."""
        request = call.request
        return await self._read(lambda db, now, _: reading.links(db, request, call.actor, now))

    async def stuck(self, call: Call[ListStuck]) -> StuckPage:
        """Return a page of stuck messages."""
        request = call.request
        position = await self._unchanged(call)
        if position is not None:
            return StuckPage(position=position, unchanged=True)
        return await self._read(
            lambda db, now, building: stuck.page(db, request, call.actor, now, building),
            lambda page: page.position,
        )

    async def mailboxes(self, call: Call[ListMailboxes]) -> MailboxPage:
        """Return a page of mailboxes, with details if they are requested."""
        if not call.request.details:
            return await self._backend.read(call)
        return await self._read(lambda db, now, _: own.page(db, call, now))

    async def _unchanged(
        self, call: Call[ListConversations] | Call[ReadConversation] | Call[ListStuck]
    ) -> int | None:
        """Return the position of the state if it is unchanged and the index is complete."""
        position = call.request.if_changed_from
        if position is None or self._complete_at != position:
            return None
        if not await self._query(lambda db, _: state.position(db).applied == position):
            return None
        conversations.refuse_unknown(call.actor)
        return position

    async def _read(
        self,
        look: Callable[[Connection, int, Progress | None], R],
        position_of: Callable[[R], int] | None = None,
    ) -> R:
        """Update the index, within the limits of one request, and read it."""
        rounds = _ROUNDS
        while True:
            rounds -= 1
            task = await self._follow()
            building = task.progress
            found = await self._query(lambda db, now: look(db, now, building))  # noqa: B023  # at once
            # A read may make due messages visible, which then must be indexed.
            is_current = position_of is None or position_of(found) == task.position
            if is_current or building is not None or not rounds:
                return found

    async def _follow(self) -> ToDo:
        """Index new messages; return the remaining work."""
        task = await self._query(_ToDo(self._complete_at))
        if not task.is_done and self._building.acquire(blocking=False):
            try:
                await self._build(task)
            finally:
                self._building.release()
        if task.is_done:
            self._complete_at = task.position
        return task

    async def _build(self, task: ToDo) -> None:
        """Index part after part for some time; other commands run in between."""
        end = time.perf_counter() + MOST_S
        while not task.is_done:
            try:
                await self._change(lambda db: index.index_part(db, task))
            except Unavailable:
                return  # another process writes
            if time.perf_counter() > end:
                return
            await asyncio.sleep(0)

    async def _query(self, look: Callable[[Connection, int], R]) -> R:
        return await self._backend.read(Call(DerivedQuery(look)))

    async def _change(self, change: Callable[[Connection], None]) -> None:
        await self._backend.run(Call(LocalChange(change)))
