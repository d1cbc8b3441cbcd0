"""Limits of sessions over HTTP: how many an agent may have, and when an idle one ends."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp.server.auth.middleware.bearer_auth import (
    AuthenticatedUser,
    AuthorizationContext,
    authorization_context,
)
from mcp_types import INTERNAL_ERROR
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mq9.clock import Clock, Timer

_SESSION = "mcp-session-id"
_VERSION = "mcp-protocol-version"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Limits of the sessions of one server."""

    max_sessions: int = 1_000
    max_per_agent: int = 100
    idle_s: int = 60  # without a request in work and an open stream


@dataclass(slots=True)
class _Session:
    owner: AuthorizationContext | None
    agent: str
    ending: Scope
    in_work: int = 0  # requests, open streams included
    timer: Timer | None = None


class Sessions:
    """Limits the sessions that an app opens, and ends those that are idle.

    It sees what goes over HTTP: the answer that names a session, the requests in it, and the DELETE
    that ends it. An idle session is ended by such a DELETE, made here: the SDK has no other public
    way to end one from outside. Its own idle timeout goes by the event loop's clock and reports to
    nobody which session has ended, so that the sessions of an agent could not be counted.
    """

    def __init__(self, app: ASGIApp, clock: Clock, limits: SessionLimits) -> None:
        self._app = app
        self._clock = clock
        self._limits = limits
        self._sessions: dict[str, _Session] = {}
        self._opening: Counter[str] = Counter()  # by agent
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """End idle sessions, while inside."""
        try:
            yield
        finally:
            for session in self._sessions.values():
                _stop(session)
            self._sessions.clear()
            for task in self._closing:
                task.cancel()
            if self._closing:
                await asyncio.wait(self._closing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = Headers(scope=scope)
        if headers.get(_VERSION, HANDSHAKE_PROTOCOL_VERSIONS[0]) not in HANDSHAKE_PROTOCOL_VERSIONS:
            await self._app(scope, receive, send)  # the current protocol has no sessions
            return
        user = scope.get("user")
        owner = authorization_context(user) if isinstance(user, AuthenticatedUser) else None
        name = headers.get(_SESSION)
        session = None if name is None else self._sessions.get(name)
        if name is None:
            await self._open(owner, scope, receive, send)
        elif session is None or session.owner != owner:
            await self._app(scope, receive, send)
        else:
            await self._use(name, session, scope, receive, send)

    def _refusal(self, agent: str) -> Response | None:
        """Return the answer to an agent that has too many sessions; None when it has not."""
        limits = self._limits
        own = self._opening[agent] + sum(one.agent == agent for one in self._sessions.values())
        if own >= limits.max_per_agent:
            return self._too_many(429, f"this agent has {limits.max_per_agent} sessions")
        if len(self._sessions) + self._opening.total() >= limits.max_sessions:
            return self._too_many(503, f"there are {limits.max_sessions} sessions")
        return None

    def _too_many(self, status: int, what: str) -> Response:
        idle_s = self._limits.idle_s
        message = (
            f"{what}, which is the limit; end one by DELETE, or wait: after {idle_s} idle s it ends"
        )
        error = {"code": INTERNAL_ERROR, "message": message}
        return Response(
            json.dumps({"jsonrpc": "2.0", "id": None, "error": error}),
            status,
            {"retry-after": str(idle_s)},
            "application/json",
        )

    async def _open(
        self, owner: AuthorizationContext | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        agent = "" if owner is None else owner["subject"] or owner["client_id"]
        refusal = self._refusal(agent)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        opened: _Session | None = None
        name = ""

        async def watched(message: Message) -> None:
            nonlocal opened, name
            if message["type"] == "http.response.start" and message["status"] < 400:
                name = Headers(raw=message["headers"]).get(_SESSION, "")
                if name:
                    # By the credential of the request that opened it.
                    ending = {"method": "DELETE", "headers": [(_SESSION.encode(), name.encode())]}
                    opened = _Session(owner, agent, {**scope, **ending}, in_work=1)
                    self._sessions[name] = opened
            await send(message)

        self._opening[agent] += 1
        try:
            await self._app(scope, receive, watched)
        finally:
            self._opening -= Counter([agent])  # which keeps no zeros
            if opened is not None:
                self._end_use(name, opened)

    async def _use(
        self, name: str, session: _Session, scope: Scope, receive: Receive, send: Send
    ) -> None:

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                if status == 404 or (scope["method"] == "DELETE" and status < 400):
                    self._forget(name)
            await send(message)

        session.in_work += 1
        _stop(session)
        try:
            await self._app(scope, receive, watched)
        finally:
            self._end_use(name, session)

    def _end_use(self, name: str, session: _Session) -> None:
        """Count the idle time from now on, unless another request is in work."""
        session.in_work -= 1
        if not session.in_work and self._sessions.get(name) is session:
            session.timer = self._clock.call_later(
                self._limits.idle_s * 1000, lambda: self._end(name)
            )

    def _forget(self, name: str) -> _Session | None:
        session = self._sessions.pop(name, None)
        if session is not None:
            _stop(session)
        return session

    def _end(self, name: str) -> None:
        """End a session as its client would, by DELETE."""
        session = self._forget(name)
        if session is not None:
            task = asyncio.create_task(self._send(session.ending))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _send(self, scope: Scope) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_message: Message) -> None:
            pass

        await self._app(scope, receive, send)


def _stop(session: _Session) -> None:
    if session.timer is not None:
        session.timer.cancel()
        session.timer = None
