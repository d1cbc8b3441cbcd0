"""The transport to a server that speaks NATS: ``mq9 serve``, RobustMQ, or any with mq9 behind it.

A broken connection ends all its requests at once, and the next request makes a new connection. No
request is repeated here: only its caller knows whether that is safe.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, TypeVar

from mq9.clock import Clock, SystemClock
from mq9.concurrency.single_flight import Abandoned, SingleFlight
from mq9.errors import Mq9Error, NotConnected, Unauthorized, Unreachable
from mq9.protocol import replies, subjects
from mq9.protocol.body import Body
from mq9.protocol.headers import encode_unread
from mq9.protocol.outcomes import Reply
from mq9.protocol.verbs import verb_of
from mq9.transport.nats_link import BROKEN, Link
from mq9.transport.nats_login import Login
from mq9.transport.nats_refusals import none_of
from mq9.transport.servers import ServerAddress, Servers, discovered

R = TypeVar("R")

_CLOSED = "before the client was closed"
_SHORTEST_PAUSE_S = 0.01  # after a server was not reached; twice as long after each further time
_LONGEST_PAUSE_S = 0.5


class NatsTransport:
    """Sends requests to one of the servers, on one connection at a time.

    It belongs to the event loop that it was made on.
    """

    any_loop = False

    def __init__(self, servers: Servers, name: str, agent: str | None = None) -> None:
        self.clock: Clock = SystemClock()
        self._servers = servers
        self._name = name
        self._agent = agent
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._link: Link | None = None
        self._retired: list[Link] = []  # with requests in progress, and no new ones
        self._latest: ServerAddress | None = None  # that let this client in
        self._discovered: list[ServerAddress] = []  # others that it named
        self._pause = 0.0  # seconds between the last two attempts
        self._not_before = 0.0  # no server is tried, of the event loop's time
        self._dialing = SingleFlight(self._dial)
        self._closed = False

    async def open(self) -> None:
        """Connect, trying each server once. Cancelling it leaves nothing open."""
        try:
            if self._usable() is None:
                await self._connect()
        except BaseException:
            await self.close()
            raise

    async def request(
        self,
        asked: Body[R],
        mail_address: str,
        payload: bytes | None,
        unread_of: tuple[str, str] | None,
        timeout: float,
    ) -> Reply[R]:
        """Write a request, send it and read its reply; connect first where that is needed."""
        subject = subjects.encode(type(asked), mail_address, asked.subject_msg_id)
        if payload is None:
            payload = asked.encode()
        headers = list(asked.encode_headers())
        if unread_of is not None:
            headers.append(encode_unread(*unread_of))
        link = self._usable() or await self._connect()
        try:
            reply = replies.decode(await link.request(subject, payload, headers, timeout))
            outcome: R = verb_of(type(asked)).outcome(reply)
            return Reply(outcome, None if unread_of is None else replies.decode_unread(reply))
        except Mq9Error as error:
            error.broker = link.url
            raise

    async def abandon(self, asked: Body[Any], mail_address: str) -> None:
        """Send what takes back a request whose caller was cancelled."""
        if self._link is not None:
            self._link.publish(subjects.encode(type(asked), mail_address), asked.encode())

    async def close(self) -> None:
        """Leave the server; open requests get no reply."""
        self._closed = True
        if os.getpid() != self._process or self._loop.is_closed():
            return  # open connections belong to the parent process, or cannot be closed
        self._refuse_another_loop()
        dialing = self._dialing.abandon()
        if dialing is not None:
            await asyncio.wait([dialing])
        links = [*self._retired, *([self._link] if self._link is not None else [])]
        self._retired, self._link = [], None
        for link in links:
            await link.close(_CLOSED)

    def _usable(self) -> Link | None:
        """Return the connection; None where one has to be made."""
        if self._closed:
            raise NotConnected("the client is closed")
        if os.getpid() != self._process:
            raise NotConnected("the process was forked; connect a new client in the child")
        self._refuse_another_loop()
        link = self._link
        return link if link is not None and link.is_open and not self._may_leave(link) else None

    async def _connect(self) -> Link:
        try:
            await self._dialing()
        except Abandoned:
            raise NotConnected("the client is closed") from None
        if self._link is None:
            raise NotConnected("the client is closed")
        return self._link

    def _may_leave(self, link: Link) -> bool:
        """Return whether to try another server in place of one that shuts down."""
        return link.is_leaving and self._loop.time() >= self._not_before

    def _refuse_another_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise NotConnected(
                "the client was connected on another event loop; connect one on each loop"
            )

    async def _dial(self) -> None:
        """Connect to the first server that answers, beginning with the one that did last."""
        former = self._link
        if former is not None:
            self._learn(former)
        is_leaving = former is not None and former.is_open
        if former is not None and not is_leaving:
            self._link = None
            await former.close(BROKEN)
        if (pause := self._not_before - self._loop.time()) > 0:
            await asyncio.sleep(pause)
        login = Login()
        if self._servers.must_encrypt or self._servers.is_signed:
            login = await asyncio.to_thread(Login.read, self._servers)
        refusals: list[Mq9Error] = []
        for server in self._candidates(is_leaving=is_leaving):
            link = Link(server, self._servers.inbox_prefix, self._servers.caller)
            try:
                await link.open(self._name, login)
                if self._agent is not None:
                    await link.check_agent(self._agent)
            except (Unreachable, Unauthorized) as refusal:
                refusals.append(refusal)
                continue
            if self._closed:
                await link.close(_CLOSED)
                raise Abandoned
            self._link, self._latest = link, server
            if former is not None and is_leaving:
                former.retire()
                self._retired = [one for one in self._retired if one.is_open] + [former]
            return
        self._note_failure()
        if former is None or not former.is_open:  # otherwise it continues with that one
            raise none_of(refusals)

    def _learn(self, link: Link) -> None:
        """Take over the known servers of a closed connection."""
        if not link.is_open:
            if link.has_answered:
                self._pause = 0.0
            else:
                self._note_failure()  # an admitted connection that is cut off counts as a failure
        if self._latest is not None and not self._servers.ignore_discovered:
            found = [discovered(one, self._latest) for one in link.other_servers]
            self._discovered = [one for one in found if one is not None]

    def _candidates(self, *, is_leaving: bool) -> list[ServerAddress]:
        """Return the servers in the order in which they are tried."""
        servers: dict[tuple[str, int], ServerAddress] = {}
        for server in (*self._servers.members, *self._discovered):
            servers.setdefault((server.host, server.port), server)
        return sorted(servers.values(), key=lambda one: (one == self._latest) == is_leaving)

    def _note_failure(self) -> None:
        self._pause = min(_LONGEST_PAUSE_S, 2 * self._pause) or _SHORTEST_PAUSE_S
        self._not_before = self._loop.time() + self._pause
