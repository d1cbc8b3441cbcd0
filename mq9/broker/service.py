"""The broker's service: one request of the protocol in, one reply out.

Whoever asks and however the request came, it is answered here. The service reads requests, checks
who may do what, turns verbs into commands for the backend, and does the waiting of the long poll.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from mq9 import address as addresses
from mq9.broker.observer import Observer
from mq9.broker.payloads import PayloadForm
from mq9.broker.waiters import Waiters
from mq9.clock import Clock
from mq9.discovery.embeddings import Embeddings
from mq9.discovery.search import AgentSearch
from mq9.engine import commands
from mq9.engine.commands import ANYBODY, Actor, Claimed, Command, Fetched, Start
from mq9.errors import Forbidden, InvalidRequest, Mq9Error, Unavailable
from mq9.models import FetchResult, Totals
from mq9.protocol import headers, replies, requests, subjects
from mq9.protocol.headers import Headers, SendOptions
from mq9.protocol.reserved import Reserved
from mq9.protocol.subjects import Verb
from mq9.storage.backend import Backend

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")

SWEEP_INTERVAL_MS = 60_000
_FAILING_MS = 10_000  # for so long after a write that failed the storage counts as failing
_UNKNOWN = "unknown"  # the verb of a subject that carries none


@dataclass(frozen=True, slots=True)
class Session:
    """Who asks.

    Attributes:
        consumer: Stands in for the consumer that a request does not name; random per connection.
        agent: The name that the connection has authenticated as.
        reserved: What belongs to the configured agents; None where no agents are configured.
        payloads: In which form payloads are written to the connection.
    """

    consumer: str
    agent: str | None = None
    reserved: Reserved | None = None
    payloads: PayloadForm = field(default_factory=PayloadForm, compare=False)

    @property
    def asker(self) -> str:
        """With whose requests those of the connection are in order, and share their time."""
        return self.agent or self.consumer

    def actor(self, address: str = "") -> Actor:
        """Return who asks for the mailbox at an address, or for none, with what that has to know.

        Where agents are configured, what has no creator is closed to them.
        """
        if self.reserved is None:
            return ANYBODY if self.agent is None else Actor(self.agent)
        own = () if self.agent is None else self.reserved.own(self.agent)
        return Actor(self.agent, self.reserved.owner_of_address(address), own, closed=True)

    def refuse_reserved(self, name: str | None, mailbox: str | None) -> None:
        """Refuse a name or mailbox in the registry that belongs to another agent.

        Raises:
            Forbidden: One of them does.
        """
        if self.reserved is None:
            return
        if name is not None and self.reserved.owner_of_name(name) not in {None, self.agent}:
            raise Forbidden(f"name: {name!r} belongs to another agent")
        if mailbox and self.reserved.owner_of_address(mailbox) not in {None, self.agent}:
            raise Forbidden(f"mailbox: {mailbox} belongs to another agent")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        subject: The verb and its mailbox.
        payload: The JSON, or the body of a SEND.
        headers: Name and value of each, repeated ones included.
        session: Who asks.
        wants_reply: Whether the asker can be answered; a FETCH that cannot leases nothing.
        on_wait: Called when a FETCH begins to wait for mail.
    """

    subject: str
    payload: bytes
    headers: Headers
    session: Session
    wants_reply: bool = True
    on_wait: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose subject and headers have been read."""

    verb: Verb
    address: str
    msg_id: int | None
    payload: bytes
    headers: Headers
    session: Session
    as_base64: bool
    watch: Stopwatch

    @property
    def agent(self) -> str | None:
        """The name that whoever asks has authenticated as."""
        return self.session.agent

    @property
    def actor(self) -> Actor:
        """Who asks for the mailbox that the subject names."""
        return self.session.actor(self.address)

    def works_for(self, consumer: str | None) -> str | None:
        """Return the agent that a consumer works for: its name up to the first slash.

        Whoever has authenticated as an agent works for that one.
        """
        return self.agent or (consumer or "").partition("/")[0] or None


class Stopwatch:
    """Measures how long a request is at work, without what it waits for mail.

    Args:
        timer: Gives the seconds from some instant.
        on_wait: Called when the request begins to wait for the first time.
    """

    def __init__(self, timer: Callable[[], float], on_wait: Callable[[], None] | None) -> None:
        self._timer = timer
        self._on_wait = on_wait
        self._begun = timer()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Stand still while inside."""
        if self._on_wait is not None:
            self._on_wait()
            self._on_wait = None
        stopped = self._timer()
        try:
            yield
        finally:
            self._begun += self._timer() - stopped

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return self._timer() - self._begun


class Service:
    """Answers requests from one backend.

    Args:
        backend: Carries out the commands.
        waiters: Who waits for news; shared with the backend.
        clock: Tells the time.
        randomness: Gives that many unpredictable bytes.
        observer: Is told what happens.
        timer: Gives the seconds from some instant, to measure with.
        embeddings: Let agents be found by meaning; without any they are found by their words.
    """

    def __init__(
        self,
        backend: Backend,
        waiters: Waiters,
        clock: Clock,
        randomness: Callable[[int], bytes],
        *,
        observer: Observer,
        timer: Callable[[], float] = time.perf_counter,
        embeddings: Embeddings | None = None,
    ) -> None:
        self._backend = backend
        self._agents = AgentSearch(backend, embeddings)
        self._waiters = waiters
        self._clock = clock
        self._randomness = randomness
        self._observer = observer
        self._timer = timer
        self._stopping = False
        self._next_sweep_ms = clock.monotonic_ms() + SWEEP_INTERVAL_MS
        self._verbs: dict[Verb, Callable[[Call], Awaitable[dict[str, Any]]]] = {
            Verb.MAILBOX_CREATE: self._create,
            Verb.MAILBOX_DROP: self._drop,
            Verb.MAILBOX_STATUS: self._status,
            Verb.MAILBOX_GRANT: self._grant,
            Verb.PUBLIC_LIST: self._public_list,
            Verb.SEND: self._send,
            Verb.FETCH: self._fetch,
            Verb.ACK: self._ack,
            Verb.NACK: self._nack,
            Verb.MOVE: self._move,
            Verb.EXTEND: self._extend,
            Verb.RELEASE: self._release,
            Verb.QUERY: self._query,
            Verb.DELETE: self._delete,
            Verb.AGENT_REGISTER: self._register,
            Verb.AGENT_UNREGISTER: self._unregister,
            Verb.AGENT_REPORT: self._report,
            Verb.AGENT_DISCOVER: self._discover,
            Verb.AGENT_WHOAMI: self._whoami,
        }

    def stop_waiting(self) -> None:
        """End every wait for mail, those to come included: a FETCH answers with what there is."""
        self._stopping = True
        self._waiters.wake_all()

    async def handle(self, request: Request) -> bytes:
        """Answer one request. Never raises but when cancelled; a cancelled FETCH leases nothing.

        Requests of one asker take effect in the order in which they were begun.
        """
        watch = Stopwatch(self._timer, request.on_wait)
        verb: str = _UNKNOWN
        code = "ok"
        try:
            known, address, msg_id = subjects.decode(request.subject)
            verb = known.value
            reply = await self._answer(known, address, msg_id, request, watch)
        except Mq9Error as error:
            code = error.code
            reply = replies.failure(error)
        except Exception:
            logger.exception("the broker failed on %s", request.subject)
            code = Unavailable.code
            reply = replies.failure(Unavailable("the broker failed; the outcome is unknown"))
        self._observer.answered(verb, code, watch.seconds)
        return replies.encode(reply)

    async def _answer(
        self, verb: Verb, address: str, msg_id: int | None, request: Request, watch: Stopwatch
    ) -> dict[str, Any]:
        values = headers.read(request.headers)
        call = Call(
            verb,
            address,
            msg_id,
            request.payload,
            request.headers,
            request.session,
            request.session.payloads.is_base64(
                headers.decode_encoding(values), verb, request.payload
            ),
            watch,
        )
        unread_of = headers.decode_unread(values)
        if verb is Verb.FETCH and not request.wants_reply:
            raise InvalidRequest("reply: a FETCH without a reply subject is given nothing")
        if unread_of is not None and call.agent is not None:
            actor = call.session.actor(unread_of[0])
            await self._backend.read(commands.CheckActor(address=unread_of[0], actor=actor))
        reply = await self._verbs[verb](call)
        if unread_of is not None:
            await self._add_unread(reply, call, *unread_of)
        if verb is not Verb.FETCH:  # whose lease would be nobody's, were it cancelled here
            await self._sweep_now_and_then()
        return reply

    async def _add_unread(
        self, reply: dict[str, Any], call: Call, address: str, group: str
    ) -> None:
        try:
            unread = await self._backend.read(
                commands.CountUnread(
                    address=address, actor=call.session.actor(address), group=group
                )
            )
        except asyncio.CancelledError:
            if "batch" in reply:  # it was leased, and now nobody is there to take it
                self._backend.take_back(
                    commands.Release(address=call.address, batch=reply["batch"]),
                    call.session.asker,
                )
                self._waiters.notify(call.address)
            raise
        except Mq9Error as error:
            # What was asked for has been done; its reply must not be lost over a courtesy.
            logger.warning("could not count the unread mail of %s: %s", address, error)
            return
        if unread is not None:
            reply["unread"] = replies.encode_unread(unread)

    async def _sweep_now_and_then(self) -> None:
        now = self._clock.monotonic_ms()
        if now >= self._next_sweep_ms:
            try:
                if await self._sweep():
                    self._next_sweep_ms = now  # there is more: go on with the next request
            except Mq9Error as error:
                logger.warning("could not sweep: %s", error)

    async def _sweep(self) -> bool:
        """Remove some of what is over; whether there may be more."""
        self._next_sweep_ms = self._clock.monotonic_ms() + SWEEP_INTERVAL_MS
        sweep = commands.Sweep()
        return await self._backend.run(sweep) >= sweep.most

    def close(self) -> None:
        """Let go of what finds agents by meaning."""
        self._agents.close()

    async def sweep(self) -> None:
        """Remove all that is over, a bounded part at a time."""
        more = True
        while more:
            more = await self._sweep()
            await asyncio.sleep(0)  # so that requests get their turn

    async def claim(self, reserved: Reserved) -> Claimed:
        """Give configured agents what is stored under their names and addresses."""
        keys = await self._backend.read(commands.AgentKeys())
        owners = {key: reserved.owner_of_name(key) for key in (*reserved.names, *keys)}
        return await self._backend.run(
            commands.ClaimNames(
                names=tuple((key, agent) for key, agent in owners.items() if agent is not None),
                addresses=tuple(reserved.addresses.items()),
            )
        )

    async def check(self) -> None:
        """See whether the storage works: it can be read, and did not refuse a write just now."""
        failed_ms = self._backend.failed_ms
        if failed_ms is not None and self._clock.monotonic_ms() - failed_ms < _FAILING_MS:
            raise Unavailable("the storage refused what was last written")
        await self._backend.read(commands.Look())

    async def totals(self) -> Totals:
        """Count what the broker holds."""
        return await self._backend.read(commands.CountAll())

    async def _run(self, call: Call, command: Command[R]) -> R:
        return await self._backend.run(command, call.session.asker)

    async def _create(self, call: Call) -> dict[str, Any]:
        body = requests.CreateMailbox.decode(call.payload)
        address = body.name or addresses.generate(
            self._randomness(addresses.RANDOM_BYTES), body.prefix
        )
        await self._run(
            call,
            commands.CreateMailbox(
                address=address,
                life=self._randomness(8).hex(),
                ttl_s=body.ttl,
                description=body.desc,
                public=body.public,
                renew=body.renew,
                actor=call.session.actor(address),
            ),
        )
        self._waiters.wake(address)
        return replies.success({"mail_address": address})

    async def _drop(self, call: Call) -> dict[str, Any]:
        await self._run(call, commands.DropMailbox(address=call.address, actor=call.actor))
        self._waiters.wake(call.address)
        return replies.success({})

    async def _status(self, call: Call) -> dict[str, Any]:
        body = requests.MailboxStatusRequest.decode(call.payload)
        status = await self._backend.read(
            commands.Status(
                address=call.address, actor=call.actor, group=body.group_name, msg_id=body.msg_id
            )
        )
        return replies.encode_status(status)

    async def _grant(self, call: Call) -> dict[str, Any]:
        body = requests.GrantMailbox.decode(call.payload)
        readers = await self._run(
            call,
            commands.GrantMailbox(address=call.address, readers=body.readers, actor=call.actor),
        )
        return replies.success({"readers": readers})

    async def _public_list(self, call: Call) -> dict[str, Any]:
        body = requests.ListPublic.decode(call.payload)
        listed, more = await self._backend.read(commands.ListPublic(after=body.after or ""))
        return replies.encode_public(listed, more=more)

    async def _send(self, call: Call) -> dict[str, Any]:
        options = SendOptions.decode(call.headers)
        agent = call.agent
        msg_id = await self._run(
            call,
            commands.Send(
                address=call.address,
                payload=call.payload,
                priority=options.priority,
                key=options.key,
                delay_s=options.delay or 0,
                ttl_s=options.ttl,
                tags=options.tags,
                id=options.id,
                sender=options.sender if agent is None else agent,
                sender_verified=agent is not None,
                reply_to=options.reply_to,
                correlation_id=options.correlation_id,
                path=options.path,
                headers=options.headers,
            ),
        )
        self._waiters.notify(call.address)
        return replies.success({"msg_id": msg_id})

    async def _fetch(self, call: Call) -> dict[str, Any]:
        body = requests.Fetch.decode(call.payload)
        start = Start(deliver=body.deliver, from_time=body.from_time, from_id=body.from_id)
        if body.group_name is None:
            peek = commands.Peek(
                address=call.address,
                actor=call.actor,
                start=start,
                num_msgs=body.num_msgs,
                max_bytes=body.max_bytes,
                as_text=not call.as_base64,
            )
            works_for = call.works_for(body.consumer)
            fetched = await self._wait_for_more(call, body, self._peeking(call, peek, works_for))
        else:
            fetch = commands.Fetch(
                address=call.address,
                actor=call.actor,
                group=body.group_name,
                consumer=body.consumer or call.session.consumer,
                seen=call.works_for(body.consumer),
                start=start,
                force=body.force_deliver,
                request_id=body.request_id,
                num_msgs=body.num_msgs,
                max_bytes=body.max_bytes,
                as_text=not call.as_base64,
                lease_ms=body.lease_ms,
                redeliver_own=body.redeliver_own,
            )
            fetched = await self._wait_for_more(call, body, self._fetching(call, fetch))
        result = fetched.result
        if not result:
            waiting = await self._backend.read(
                commands.WhyEmpty(
                    address=call.address,
                    actor=call.actor,
                    group=body.group_name,
                    position=fetched.position,
                )
            )
            result = FetchResult(waiting=waiting)
        elif fetched.refetched or body.force_deliver:
            # A lease may now end earlier than they think, and a reset frees what was leased.
            self._waiters.notify(call.address)
        again = sum(message.delivery_count > 1 for message in result)
        if again:
            self._observer.redelivered(again)
        return replies.encode_fetch(result, as_base64=call.as_base64)

    def _peeking(
        self, call: Call, peek: commands.Peek, works_for: str | None
    ) -> Callable[[Fetched | None], Awaitable[Fetched]]:
        async def again(last: Fetched | None) -> Fetched:
            here = peek if last is None else replace(peek, life=last.life, position=last.position)
            fetched = await self._backend.read(here)
            next_sign_ms = await self._note_seen(call, works_for)
            if next_sign_ms is None or fetched.result:
                return fetched
            change_ms = fetched.next_change_ms
            sooner_ms = next_sign_ms if change_ms is None else min(change_ms, next_sign_ms)
            return replace(fetched, next_change_ms=sooner_ms)

        return again

    async def _note_seen(self, call: Call, name: str | None) -> int | None:
        """Note that an agent lives that has read without changing anything.

        Returns:
            The instant by which to note it again while it waits; None for never.
        """
        if name is None or not await self._backend.read(commands.IsRegistered(name=name)):
            return None
        try:
            return await self._run(call, commands.Seen(name=name))
        except Mq9Error as error:  # what was asked for does not depend on it
            logger.warning("that %r lives could not be noted: %s", name, error)
            return None

    def _fetching(
        self, call: Call, fetch: commands.Fetch
    ) -> Callable[[Fetched | None], Awaitable[Fetched]]:
        async def again(last: Fetched | None) -> Fetched:
            if last is None:
                return await self._run(call, fetch)
            return await self._run(call, replace(fetch, life=last.life, force=False))

        return again

    async def _wait_for_more(
        self,
        call: Call,
        body: requests.Fetch,
        again: Callable[[Fetched | None], Awaitable[Fetched]],
    ) -> Fetched:
        """Look until there is something or the wait is over; ``again`` gets what it last found."""
        deadline_ms = self._clock.monotonic_ms() + body.max_wait_ms
        fetched = None
        with self._waiters.joined(call.address, body.group_name) as waiter:
            while True:
                waiter.begin()
                fetched = await again(fetched)
                left_ms = deadline_ms - self._clock.monotonic_ms()
                if fetched.result or self._stopping or left_ms <= 0:
                    return fetched
                change_ms = fetched.next_change_ms
                if change_ms is not None:
                    change_ms -= self._clock.now_ms()
                with call.watch.waiting():
                    await waiter.wait(self._clock, left_ms, change_ms)

    async def _ack(self, call: Call) -> dict[str, Any]:
        body = requests.Ack.decode(call.payload)
        if body.mail_address is not None and body.mail_address != call.address:
            raise InvalidRequest(
                f"mail_address: {body.mail_address!r} is not the subject's {call.address!r}"
            )
        acked = await self._run(
            call,
            commands.Ack(
                address=call.address,
                actor=call.actor,
                group=body.group_name,
                msg_id=body.msg_id,
                consumer=body.consumer or call.session.consumer,
                seen=call.works_for(body.consumer),
                for_group=body.consumer is None,
                batch=body.batch,
                individual=body.individual,
            ),
        )
        return replies.success({"acked": acked})

    async def _nack(self, call: Call) -> dict[str, Any]:
        body = requests.Nack.decode(call.payload)
        await self._run(
            call,
            commands.Nack(
                address=call.address,
                actor=call.actor,
                group=body.group_name,
                msg_id=body.msg_id,
                consumer=body.consumer or call.session.consumer,
                seen=call.works_for(body.consumer),
                for_group=body.consumer is None,
                batch=body.batch,
                delay_ms=body.delay_ms,
            ),
        )
        self._waiters.notify(call.address)
        return replies.success({})

    async def _move(self, call: Call) -> dict[str, Any]:
        body = requests.Move.decode(call.payload)
        if body.to == call.address:
            raise InvalidRequest(f"to: {body.to} is the mailbox itself")
        outcome = await self._run(
            call,
            commands.Move(
                address=call.address,
                actor=call.actor,
                group=body.group_name,
                msg_id=body.msg_id,
                consumer=body.consumer or call.session.consumer,
                seen=call.works_for(body.consumer),
                for_group=body.consumer is None,
                batch=body.batch,
                to=body.to,
                by=call.works_for(body.consumer),
                by_verified=call.agent is not None,
                reason=body.reason,
            ),
        )
        if outcome.msg_id is None:
            return replies.success({})
        self._waiters.notify(body.to)
        if outcome.is_dead_letter:
            self._observer.dead_lettered()
        return replies.success({"msg_id": outcome.msg_id})

    async def _extend(self, call: Call) -> dict[str, Any]:
        body = requests.Extend.decode(call.payload)
        extended = await self._run(
            call,
            commands.Extend(
                address=call.address,
                actor=call.actor,
                group=body.group_name,
                consumer=body.consumer or call.session.consumer,
                seen=call.works_for(body.consumer),
                msg_ids=body.msg_ids,
                lease_ms=body.lease_ms,
            ),
        )
        self._waiters.notify(call.address)
        return replies.success({"extended": extended.extended, "lost": extended.lost})

    async def _release(self, call: Call) -> dict[str, Any]:
        body = requests.Release.decode(call.payload)
        await self._run(
            call,
            commands.ReleaseRequest(
                address=call.address,
                actor=call.actor,
                group=body.group_name,
                consumer=body.consumer or call.session.consumer,
                request_id=body.request_id,
            ),
        )
        self._waiters.notify(call.address)
        return replies.success({})

    async def _query(self, call: Call) -> dict[str, Any]:
        body = requests.Query.decode(call.payload)
        found = await self._backend.read(
            commands.QueryMessages(
                address=call.address,
                actor=call.actor,
                key=body.key,
                tags=body.tags,
                since=body.since,
                limit=body.limit,
                msg_id=body.msg_id,
                max_bytes=body.max_bytes,
                as_text=not call.as_base64,
            )
        )
        return replies.encode_query(found.messages, more=found.more, as_base64=call.as_base64)

    async def _delete(self, call: Call) -> dict[str, Any]:
        assert call.msg_id is not None  # noqa: S101  # the subject of a DELETE has one
        await self._run(
            call, commands.Delete(address=call.address, actor=call.actor, msg_id=call.msg_id)
        )
        return replies.success({"deleted": True})

    async def _register(self, call: Call) -> dict[str, Any]:
        body = requests.Register.decode(call.payload)
        name = body.name
        mailbox = body.mailbox or addresses.slug(name or "")
        call.session.refuse_reserved(name, mailbox)
        await self._run(
            call,
            commands.Register(
                name=name,
                mailbox=mailbox,
                life=self._randomness(8).hex(),
                registered=call.payload,
                ttl_s=body.ttl,
                actor=call.actor,
            ),
        )
        self._waiters.wake(mailbox)
        return replies.success({"mailbox": mailbox})

    async def _unregister(self, call: Call) -> dict[str, Any]:
        body = requests.Unregister.decode(call.payload)
        call.session.refuse_reserved(body.name, body.mailbox)
        await self._run(
            call, commands.Unregister(name=body.name, mailbox=body.mailbox, actor=call.actor)
        )
        return replies.success({})

    async def _report(self, call: Call) -> dict[str, Any]:
        data = requests.parse_object(call.payload)
        body = requests.Unregister.decode(call.payload)
        call.session.refuse_reserved(body.name, body.mailbox)
        status = {name: value for name, value in data.items() if name not in {"name", "mailbox"}}
        await self._run(
            call,
            commands.Report(name=body.name, mailbox=body.mailbox, status=status, actor=call.actor),
        )
        return replies.success({})

    async def _discover(self, call: Call) -> dict[str, Any]:
        body = requests.Discover.decode(call.payload)
        found = await self._agents.find(body, call.actor)
        return replies.encode_discover(found.agents, mode=found.mode, has_more=found.has_more)

    async def _whoami(self, call: Call) -> dict[str, Any]:
        return replies.success({} if call.agent is None else {"agent": call.agent})
