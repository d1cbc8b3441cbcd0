"""The sessions of a host, and the answers to their hooks and watchers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from mcp_server.callers import Callers
from mcp_server.delivery import notice as texts
from mcp_server.features.subscriptions import end_of, watch
from mcp_server.settings import Settings
from mq9 import MailboxNotFound, Mq9Error, Notice, Occasion, OutcomeUnknown
from mq9.clock import Clock, SystemClock, sleep, wait_for_any

MAX_SESSIONS = 50
ANSWER_S = 3.0  # hosts wait for their hooks
RETRY_S = 30.0  # until a broker that has failed is asked again
SETTLE_S = 1.0  # the hook of the same event goes first
GRACE_S = 60.0  # an interrupted session does not report the end of its turn
_CLAUDE = "claude-code"
_LIMITS = _ROW, _HOUR = "in a row", "per hour"  # as a notice names them in `held`


class _Session:
    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self.parent: int | None = None
        self.worked_ms: int | None = None  # its last report of work; None: it rests
        self.changed = asyncio.Event()
        self.row = 0  # automatic turns since the last prompt
        self.said = set[str]()  # to the person, by reason
        self.to_say: dict[str, str] = {}  # to the person next
        self.held_until: float | None = None
        self.lock = asyncio.Lock()
        self.asking: asyncio.Task[Notice] | None = None
        self.watcher: asyncio.Future[None] | None = None

    def tell_person(self, why: str, text: str) -> None:
        """Notify the person at the next chance, once for each reason."""
        if why not in self.said:
            self.said.add(why)
            self.to_say[why] = text

    def begin_row(self) -> None:
        """Count the automatic turns from 0: a person has written."""
        self.row = 0
        for why in _LIMITS:
            self.said.discard(why)
            self.to_say.pop(why, None)

    def take_said(self) -> str | None:
        """Return the notices for the person."""
        text = "\n".join(self.to_say.values())
        self.to_say.clear()
        return text or None

    def end_watcher(self) -> None:
        """End the watcher of this session, if it has one."""
        if self.watcher is not None and not self.watcher.done():
            self.watcher.set_result(None)


class Sessions:
    """Answers the hooks and watchers of the host that has started this server.

    Args:
        callers: The agent, whose mailbox it is, and its connection.
        settings: What mail may do, and what the tools are called.
        clock: Measures waits; the machine's when not given.
    """

    def __init__(self, callers: Callers, settings: Settings, clock: Clock | None = None) -> None:
        self._callers = callers
        self._tools = settings.names
        self._policy = settings.wake
        self._clock = clock or SystemClock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._failed_until_ms = 0

    async def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a hook or a watcher over the port."""
        name, host, parent = request.get("session"), request.get("host"), request.get("parent")
        if not _is_text(name, 128) or not _is_text(host, 64):
            return {"ready": True}
        if self._callers.default is None:
            return {"ready": False}
        session = self._session(str(name), str(host), parent if type(parent) is int else None)
        if request.get("do") == "watch":
            return {"ready": True, "text": await self.watch(session)}
        try:
            occasion = Occasion(request.get("occasion", ""))
        except ValueError:
            return {"ready": True}
        continued = request.get("continued") is True
        return {"ready": True, **await self._hook(session, occasion, continued=continued)}

    def _session(self, name: str, host: str, parent: int | None) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = _Session(name, host)
            if len(self._sessions) > MAX_SESSIONS:
                _, oldest = self._sessions.popitem(last=False)
                oldest.end_watcher()
        self._sessions.move_to_end(name)
        session.parent = session.parent if parent is None else parent
        return session

    async def _hook(
        self, session: _Session, occasion: Occasion, *, continued: bool
    ) -> dict[str, Any]:
        if occasion == Occasion.START:
            self._end_earlier(session)
            session.worked_ms = None
        else:
            session.worked_ms = self._clock.monotonic_ms()
        if occasion == Occasion.PROMPT:
            session.begin_row()
        text = None
        # A turn is continued once. Later mail wakes the session afterwards, if it can.
        if occasion != Occasion.STOP or not continued:
            text = await self._told(session, occasion)
        if occasion == Occasion.STOP and text is None:
            session.worked_ms = None
            if self._policy.in_a_row and session.row >= self._policy.in_a_row:
                session.tell_person(_ROW, texts.row_ended(self._policy.in_a_row))
        session.changed.set()
        watched = session.watcher is not None
        return {"text": text, "person": session.take_said(), "watched": watched}

    def _end_earlier(self, session: _Session) -> None:
        """End the watchers of the sessions that a process of Claude Code had before this one."""
        for other in self._sessions.values():
            is_same = session.parent is not None and other.parent == session.parent
            if other is not session and is_same and session.host == other.host == _CLAUDE:
                other.end_watcher()

    async def _told(self, session: _Session, occasion: Occasion) -> str | None:
        """Return the notice for a session; None for none.

        A notice counts as shown when the broker answers. So a late answer is kept for the next hook
        of the session.
        """
        async with session.lock:
            if session.asking is None:
                if self._clock.monotonic_ms() < self._failed_until_ms:
                    return None
                session.asking = asyncio.create_task(self._ask(session, occasion))
            asking = session.asking
            await wait_for_any(self._clock, ANSWER_S, asking)
            if not asking.done():
                self._fail(session, "the broker does not answer in time")
                return None
            session.asking = None
            try:
                return self._text(session, occasion, asking.result())
            except OutcomeUnknown:
                return texts.unsure(self._tools)
            except MailboxNotFound:
                return None  # it has no mail yet
            except Mq9Error as error:
                self._fail(session, str(error)[:300])
                return None

    async def _ask(self, session: _Session, occasion: Occasion) -> Notice:
        identity, client = await self._callers.open_default()
        policy = self._policy
        return await client.notice(
            identity.mail_address,
            host=session.host,
            session=session.name,
            occasion=occasion,
            may_wake=policy.senders,
            max_in_a_row=policy.in_a_row,
            max_per_hour=policy.per_hour,
            cooldown_s=policy.cooldown_s,
        )

    def _text(self, session: _Session, occasion: Occasion, notice: Notice) -> str | None:
        limit = self._policy.in_a_row
        session.held_until = notice.held_until
        if notice.held == _ROW and limit:
            session.tell_person(_ROW, texts.row_ended(limit))
        if notice.held == _HOUR and self._policy.per_hour:
            session.tell_person(_HOUR, texts.hour_ended(self._policy.per_hour))
        if not notice.told:
            return None
        text = texts.said(notice, self._tools)
        if occasion in {Occasion.STOP, Occasion.IDLE}:
            session.row += 1
            if session.row == limit:
                text += texts.last_turn(limit)
        return text

    def _fail(self, session: _Session, reason: str) -> None:
        self._failed_until_ms = self._clock.monotonic_ms() + round(RETRY_S * 1000)
        session.tell_person("undelivered", texts.undelivered(reason))

    async def watch(self, session: _Session) -> str | None:
        """Wait until mail wakes a session; None when a newer watcher of it takes over."""
        session.end_watcher()
        ended = session.watcher = asyncio.get_running_loop().create_future()
        waking = asyncio.create_task(self._wake(session))
        try:
            await asyncio.wait({waking, ended}, return_when=asyncio.FIRST_COMPLETED)
            return waking.result() if waking.done() else None
        finally:
            waking.cancel()
            if session.watcher is ended:
                session.watcher = None

    async def _wake(self, session: _Session) -> str:
        await sleep(self._clock, SETTLE_S)
        while True:
            try:
                text = await self._news(session)
            except Mq9Error:
                text = None
            if text is not None:
                return text
            await sleep(self._clock, RETRY_S)

    async def _news(self, session: _Session) -> str | None:
        """Return what wakes a session; None when its mailbox is not there."""
        identity, client = await self._callers.open_default()
        address = identity.mail_address
        arrived = asyncio.Event()

        async def notify() -> None:
            arrived.set()

        # Later mail is notified; stored mail is read afterwards.
        begin = await end_of(client, address)
        watching = asyncio.create_task(watch(client, address, begin, notify))
        try:
            while not watching.done():
                await self._rest(session)
                arrived.clear()
                text = await self._told(session, Occasion.IDLE)
                if text is not None:
                    return text
                coming = asyncio.create_task(arrived.wait())
                try:
                    await wait_for_any(self._clock, self._pause_s(session), coming, watching)
                finally:
                    coming.cancel()
        finally:
            watching.cancel()
        return None

    async def _rest(self, session: _Session) -> None:
        """Wait until a session rests, or has been silent for long."""
        while session.worked_ms is not None:
            silent_ms = self._clock.monotonic_ms() - session.worked_ms
            if silent_ms >= GRACE_S * 1000:
                return
            session.changed.clear()
            changing = asyncio.create_task(session.changed.wait())
            try:
                await wait_for_any(self._clock, GRACE_S - silent_ms / 1000, changing)
            finally:
                changing.cancel()

    def _pause_s(self, session: _Session) -> float | None:
        """Return after how many seconds to ask again though nothing has come; None for never."""
        failed_ms = self._failed_until_ms - self._clock.monotonic_ms()
        if failed_ms > 0:
            return failed_ms / 1000
        if session.held_until is None:
            return None
        return max(session.held_until - self._clock.now_ms() / 1000, 1.0)


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most
