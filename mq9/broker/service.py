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
from functools import lru_cache, partial
from typing import Any, Generic, NamedTuple, TypeVar, cast
from weakref import WeakValueDictionary

from mq9 import address as addresses
from mq9.broker import official
from mq9.broker.feed import Feed, Members
from mq9.broker.observer import Observer
from mq9.broker.official import LatestReads, PayloadForm, Place
from mq9.broker.waiters import Waiters
from mq9.clock import Clock
from mq9.discovery.embeddings import Embeddings
from mq9.discovery.search import AgentSearch
from mq9.engine import commands
from mq9.engine.commands import ANYBODY, Actor, Call, Claimed, Outcome
from mq9.errors import (
    Forbidden,
    InvalidRequest,
    MailboxNotFound,
    Mq9Error,
    OutcomeUnknown,
    Unavailable,
    from_reply,
)
from mq9.models import Totals, Unread
from mq9.protocol import headers, replies, requests, subjects
from mq9.protocol.body import Body
from mq9.protocol.headers import Headers
from mq9.protocol.outcomes import Discovered, Fetched, Reply
from mq9.protocol.reserved import Reserved
from mq9.protocol.verbs import NO_OLDER_VERBS, OlderVerbs, Verb, Wakes, verb_of
from mq9.storage import store
from mq9.storage.backend import Backend, LocalChange

R = TypeVar("R")

logger = logging.getLogger("mq9.broker")

SWEEP_INTERVAL_MS = 60_000
_FAILING_MS = 10_000  # for so long after a write that failed the storage counts as failing
_SUBJECTS = 1_024  # whose meaning is remembered
_TOKEN_BYTES = 8  # of the token of a mailbox that is made
_OK = "ok"
_UNKNOWN = "unknown"  # the verb of a subject that carries none


@dataclass(frozen=True, slots=True)
class Session:
    """Who asks.

    Attributes:
        consumer: Stands in for the consumer that a request does not name; random per connection.
        agent: The name that the connection has authenticated as.
        reserved: What belongs to the configured agents; None where no agents are configured.
        is_stranger: Whether whoever is no agent is nobody in particular, rather than an operator.
        is_older_sdk: Whether the client is known to be an SDK of an older generation.
        payloads: In which form payloads are written to the connection.
        is_told_apart: Whether ``consumer`` is that of no other connection.
        max_reply: Bytes of messages in one reply, at the most; None where requests alone say so.
    """

    consumer: str
    agent: str | None = None
    reserved: Reserved | None = None
    is_stranger: bool = False
    is_older_sdk: bool = False
    payloads: PayloadForm = field(default_factory=PayloadForm, compare=False)
    is_told_apart: bool = True
    max_reply: int | None = None

    @property
    def asker(self) -> str:
        """With whose requests those of the connection are in order, and share their time."""
        return self.agent or self.consumer

    @property
    def has_allow_list(self) -> bool:
        """Whether configuration limits where the agent may send."""
        return (
            self.agent is not None
            and self.reserved is not None
            and self.reserved.has_allow_list(self.agent)
        )

    def actor(
        self, address: str = "", other: str | None = None, destination: str | None = None
    ) -> Actor:
        """Return who asks for the mailbox at an address, or for none, with what that has to know.

        Where agents are configured, what has no creator is closed to them.

        Args:
            address: The mailbox; "" for none.
            other: The mailbox that the request names besides.
            destination: The mailbox that a message goes to.
        """
        reserved, agent = self.reserved, self.agent
        if reserved is None:
            return ANYBODY if agent is None else Actor(agent)
        owner = reserved.owner_of_address(address)
        other_owner = None if other is None else reserved.owner_of_address(other)
        if agent is None:
            return Actor(
                owner=owner, closed=True, other_owner=other_owner, is_stranger=self.is_stranger
            )
        below = reserved.slug(agent)
        return Actor(
            agent,
            owner,
            reserved.own(agent),
            closed=True,
            other_owner=other_owner,
            below=below,
            apart=() if below is None else reserved.apart(below),
            barred=destination is not None and not reserved.may_send(agent, destination),
        )

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


class Request(NamedTuple):
    """What is asked.

    Attributes:
        subject: The verb and its mailbox.
        payload: The JSON, or the body of a SEND.
        headers: Name and value of each, repeated ones included.
        session: Who asks.
        wants_reply: Whether the asker can be answered; a FETCH that cannot leases nothing.
        on_wait: Called when a FETCH begins to wait for mail.
        on_leased: Called before a FETCH is answered by which something was leased, with what takes
            that back, should the reply reach nobody.
    """

    subject: str
    payload: bytes
    headers: Headers
    session: Session
    wants_reply: bool = True
    on_wait: Callable[[], None] | None = None
    on_leased: Callable[[Call[commands.Undo]], None] | None = None


class LocalRequest(NamedTuple, Generic[R]):
    """What a client in this process asks, which has checked it.

    Attributes:
        body: The request.
        mail_address: Of which mailbox; "" for none.
        payload: The message of a SEND; the whole object of a REGISTER or REPORT.
        session: Who asks.
        unread_of: The mailbox and group whose unread mail is to be counted, if any.
    """

    body: Body[R]
    mail_address: str
    payload: bytes
    session: Session
    unread_of: tuple[str, str] | None


class Asked(NamedTuple):
    """A request that has been read.

    Attributes:
        verb: What is asked.
        call: The request and who makes it.
        session: The connection that it came by.
        as_base64: Whether the reply is to hold base64.
        reads_on: Whether it is a FETCH that goes on where the connection's last one ended.
        unread_of: The mailbox and group whose unread mail is to be counted in the reply, if any.
        watch: Measures it.
        on_leased: See `Request`.
    """

    verb: Verb
    call: Call[Body[Any]]
    session: Session
    as_base64: bool
    reads_on: bool
    unread_of: tuple[str, str] | None
    watch: Stopwatch
    on_leased: Callable[[Call[commands.Undo]], None] | None


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


def _limited(body: Body[Any], max_reply: int) -> Body[Any]:
    """Return a request that is given no more messages than fit into so many bytes."""
    if isinstance(body, requests.Fetch | requests.Query) and body.max_bytes > max_reply:
        return replace(body, max_bytes=max_reply)
    return body


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
        older: What it answers beside the verbs of the current generation.
        of_sdks: The same for clients that are known to be older SDKs.
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
        older: OlderVerbs = NO_OLDER_VERBS,
        of_sdks: OlderVerbs = NO_OLDER_VERBS,
    ) -> None:
        self._backend = backend
        self._meanings = lru_cache(_SUBJECTS)(partial(subjects.meanings, older=older))
        self._meanings_to_sdks = lru_cache(_SUBJECTS)(partial(subjects.meanings, older=of_sdks))
        self._latest = LatestReads()
        self._members: WeakValueDictionary[tuple[str, str | None], Members] = WeakValueDictionary()
        self._agents = AgentSearch(backend, embeddings)
        self._waiters = waiters
        self._clock = clock
        self._randomness = randomness
        self._observer = observer
        self._timer = timer
        self._stopping = False
        self._next_sweep_ms = clock.monotonic_ms() + SWEEP_INTERVAL_MS
        # What takes more than to carry out a command and to tell of what it came to.
        self._special: dict[type[Body[Any]], Callable[[Asked], Awaitable[Any]]] = {
            requests.Fetch: self._fetch,
            requests.Discover: self._discover,
            requests.Whoami: self._whoami,
        }

    def forget(self, connection: str) -> None:
        """Forget where a connection that has ended would have read on.

        Args:
            connection: The ``consumer`` of its session.
        """
        self._latest.forget(connection)

    def stop_waiting(self) -> None:
        """End every wait for mail, those to come included: a FETCH answers with what there is."""
        self._stopping = True
        self._waiters.wake_all()

    async def handle(self, request: Request) -> bytes:
        """Answer one request. Never raises but when cancelled; a cancelled FETCH leases nothing.

        Requests of one asker take effect in the order in which they were begun.
        """
        asked = self._read(request)
        return await self._answer(asked) if isinstance(asked, Asked) else asked

    def begin(
        self, request: Request, answer: Callable[[bytes], None], *, at_once: bool
    ) -> asyncio.Task[None] | None:
        """Begin to answer one request.

        Args:
            request: What is asked.
            answer: Called with the reply, perhaps before this returns, and not at all where the
                task that is returned was cancelled.
            at_once: Whether it may be carried out before a task that was made just now has run.

        Returns:
            What answers it, where that takes a task. To cancel it is for a FETCH, which leases
            nothing then; what else was begun is carried out.
        """
        asked = self._read(request)
        if not isinstance(asked, Asked):
            answer(asked)
            return None
        if (
            not at_once
            or asked.verb.reads
            or asked.verb.request in self._special
            or asked.unread_of is not None
            or self._is_time_to_sweep
        ):
            return asyncio.create_task(self._answer_with(asked, answer))
        try:
            self._backend.begin(
                asked.call, asked.session.asker, partial(self._carried_out, asked, answer)
            )
        except Exception as error:  # noqa: BLE001  # it is logged
            answer(self._refuse(asked.verb, asked.watch, error))
        return None

    def _read(self, request: Request) -> Asked | bytes:
        """Read a request, or return the reply that refuses it."""
        watch = Stopwatch(self._timer, request.on_wait)
        verb: Verb | None = None
        session = request.session
        meanings = self._meanings_to_sdks if session.is_older_sdk else self._meanings
        try:
            verb, named = subjects.meant(meanings(request.subject), request.payload)
            found = headers.read(request.headers)
            encoding = headers.decode_encoding(found.protocol)
            as_base64 = session.payloads.is_base64(encoding, verb.request, request.payload)
            unread_of = headers.decode_unread(found.protocol)
            body = verb.read(request.payload, found, named)
            body.check_address(named.mail_address)
            if session.max_reply is not None:
                body = _limited(body, session.max_reply)
            reads_on = (
                isinstance(body, requests.Fetch)
                and encoding is None
                and session.is_told_apart
                and official.reads_on(body, request.payload)
            )
            if isinstance(body, requests.Fetch) and not request.wants_reply:
                raise InvalidRequest("reply: a FETCH without a reply subject is given nothing")  # noqa: TRY301  # told as any other
            call = self._call(
                body, named.mail_address, request.payload, session, as_text=not as_base64
            )
        except Exception as error:  # noqa: BLE001  # it is logged
            return self._refuse(verb, watch, error)
        return Asked(verb, call, session, as_base64, reads_on, unread_of, watch, request.on_leased)

    async def _answer_with(self, asked: Asked, answer: Callable[[bytes], None]) -> None:
        answer(await self._answer(asked))

    async def _answer(self, asked: Asked) -> bytes:
        """Carry out a request; the reply."""
        try:
            reply = self._fields(asked, await self._carry_out(asked))
        except Exception as error:  # noqa: BLE001  # it is logged
            return self._refuse(asked.verb, asked.watch, error)
        return self._write(asked.verb.name, _OK, asked.watch, reply)

    async def carry_out(self, request: LocalRequest[R]) -> Reply[R]:
        """Carry out a request of this process, and return what it came to.

        A FETCH that is cancelled leases nothing. Requests of one asker take effect in the order in
        which they were begun.

        Raises:
            Mq9Error: It was refused.
        """
        watch = Stopwatch(self._timer, None)
        body: Body[Any] = request.body
        session = request.session
        verb = verb_of(type(body))
        try:
            if isinstance(body, requests.Register | requests.Report):
                body = body.decode(request.payload)  # of which it is a part
            if session.max_reply is not None:
                body = _limited(body, session.max_reply)
            call = self._call(body, request.mail_address, request.payload, session, as_text=False)
            asked = Asked(
                verb,
                call,
                session,
                as_base64=True,
                reads_on=False,
                unread_of=request.unread_of,
                watch=watch,
                on_leased=None,
            )
            reply = await self._carry_out(asked)
        except Exception as error:  # noqa: BLE001  # it is logged
            refused = self._refused(verb.name, watch, error)
            # Not the error itself, which others may have got, too.
            raise from_reply(replies.failure(refused)["error"], refused.code) from None
        self._observer.answered(verb.name, _OK, watch.seconds)
        return reply

    async def _carry_out(self, asked: Asked) -> Reply[Any]:
        """Carry out a request with all that belongs to it."""
        if asked.unread_of is not None and asked.session.agent is not None:
            address, _ = asked.unread_of
            actor = asked.session.actor(address)
            await self._backend.read(Call(commands.CheckActor(), address, actor))
        special = self._special.get(asked.verb.request)
        outcome: Any
        if special is not None:
            outcome = await special(asked)
        elif asked.verb.reads:
            outcome = await self._backend.read(asked.call)
        else:
            outcome = await self._backend.run(asked.call, asked.session.asker)
            self._tell(asked, outcome)
        unread = None
        if asked.unread_of is not None:
            unread = await self._count_unread(asked, outcome, *asked.unread_of)
        # A FETCH, were it cancelled there, would have leased for nobody.
        if asked.verb.request is not requests.Fetch and self._is_time_to_sweep:
            await self._sweep_now()
        return Reply(outcome, unread)

    def _carried_out(
        self, asked: Asked, answer: Callable[[bytes], None], outcome: Outcome[Any]
    ) -> None:
        """Answer a request of which this came."""
        try:
            value = outcome.result()
            self._tell(asked, value)
            reply = self._fields(asked, Reply(value))
        except Exception as error:  # noqa: BLE001  # it is logged
            answer(self._refuse(asked.verb, asked.watch, error))
        else:
            answer(self._write(asked.verb.name, _OK, asked.watch, reply))

    def _tell(self, asked: Asked, outcome: Any) -> None:
        """Tell those who wait, and the observer, of what a command came to."""
        verb, call = asked.verb, asked.call
        if verb.wakes is Wakes.ITS_GROUPS:
            self._waiters.notify(call.address)
        elif verb.wakes is Wakes.EVERYBODY:
            self._waiters.wake(call.address)
        elif isinstance(call.request, requests.Move):
            if outcome.msg_id is not None:
                self._waiters.notify(call.request.to)
            if outcome.is_dead_letter:
                self._observer.dead_lettered()

    def _fields(self, asked: Asked, reply: Reply[Any]) -> dict[str, Any]:
        """Return the fields of a reply."""
        verb = asked.verb
        how = {"as_base64": asked.as_base64} if verb.request.reads_messages else {}
        fields = verb.success(verb.reply(reply.outcome, **how))
        if reply.unread is not None:
            fields["unread"] = replies.encode_unread(reply.unread)
        return fields

    def _refuse(self, verb: Verb | None, watch: Stopwatch, error: Exception) -> bytes:
        """Return the reply to a request that failed; ``verb`` is None where it has none."""
        name, failure = (_UNKNOWN, replies.failure) if verb is None else (verb.name, verb.failure)
        return replies.encode(failure(self._refused(name, watch, error)))

    def _refused(self, name: str, watch: Stopwatch, error: Exception) -> Mq9Error:
        """Count a request that failed, and return what its asker is told."""
        if not isinstance(error, Mq9Error):
            logger.error("the broker failed on %s", name, exc_info=error)
            error = OutcomeUnknown("the broker failed; the outcome is unknown")
        self._observer.answered(name, error.code, watch.seconds)
        return error

    def _write(self, name: str, code: str, watch: Stopwatch, reply: dict[str, Any]) -> bytes:
        """Return a reply as bytes, and count it."""
        self._observer.answered(name, code, watch.seconds)
        return replies.encode(reply)

    @property
    def _is_time_to_sweep(self) -> bool:
        return self._clock.monotonic_ms() >= self._next_sweep_ms

    def _call(
        self, body: Body[Any], address: str, payload: bytes, session: Session, *, as_text: bool
    ) -> Call[Body[Any]]:
        """Put a request together with who makes it, and with what the engine cannot make up.

        Raises:
            Forbidden: It names an agent in the registry that belongs to another.
        """
        token = ""
        actor = None
        if isinstance(body, requests.CreateMailbox):
            token = self._randomness(_TOKEN_BYTES).hex()
            address = body.name or addresses.generate(
                self._randomness(addresses.RANDOM_BYTES), body.prefix
            )
        elif isinstance(body, requests.Register):
            token = self._randomness(_TOKEN_BYTES).hex()
            address = body.mail_address
            session.refuse_reserved(body.name, address)
            actor = session.actor()
        elif isinstance(body, (requests.Unregister, requests.Report)):
            session.refuse_reserved(body.name, body.mailbox)
        return Call(
            body,
            address,
            actor or session.actor(address, body.other_address, body.destination(address)),
            session.consumer,
            payload,
            token,
            as_text=as_text,
        )

    async def _count_unread(
        self, asked: Asked, outcome: Any, address: str, group_name: str
    ) -> Unread | None:
        count = commands.CountUnread(group_name=group_name)
        try:
            return await self._backend.read(Call(count, address, asked.session.actor(address)))
        except asyncio.CancelledError:
            if isinstance(outcome, Fetched) and outcome.batch is not None:
                # It was leased, and now nobody is there to take it.
                undo = commands.Undo(batch=outcome.batch)
                self.make_undone(Call(undo, asked.call.address), asked.session.asker)
            raise
        except Mq9Error as error:
            # What was asked for has been done; its reply must not be lost over a courtesy.
            logger.warning("could not count the unread mail of %s: %s", address, error)
            return None

    def make_undone(self, undo: Call[commands.Undo], asker: str) -> None:
        """Take back, soon, a FETCH reply that reached nobody.

        Args:
            undo: What takes it back.
            asker: Who made the FETCH.
        """
        self._backend.make_undone(undo, asker)
        self._waiters.notify(undo.address)

    async def _sweep_now(self) -> None:
        """Remove some of what is over, and go on with the next request where there is more."""
        now = self._clock.monotonic_ms()
        try:
            if await self._sweep():
                self._next_sweep_ms = now
        except Mq9Error as error:
            logger.warning("could not sweep: %s", error)

    async def _sweep(self) -> bool:
        """Remove some of what is over, and shorten the file; whether there may be more."""
        self._next_sweep_ms = self._clock.monotonic_ms() + SWEEP_INTERVAL_MS
        sweep = commands.Sweep()
        removed = await self._backend.run(Call(sweep))
        freed = await self._backend.run(
            Call(LocalChange(lambda connection: store.give_back_pages(connection, sweep.most)))
        )
        return max(removed, freed) >= sweep.most

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
        keys = await self._backend.read(Call(commands.AgentKeys()))
        owners = {key: reserved.owner_of_name(key) for key in (*reserved.names, *keys)}
        claim = commands.ClaimNames(
            names=tuple((key, agent) for key, agent in owners.items() if agent is not None),
            addresses=tuple(reserved.addresses.items()),
            with_sub_addresses=True,
        )
        return await self._backend.run(Call(claim))

    async def send_limits(self) -> int:
        """Count the mailboxes to which not everybody may send."""
        return await self._backend.read(Call(commands.CountSendLimits()))

    async def check(self) -> None:
        """See whether the storage works: it can be read, and did not refuse a write just now."""
        failed_ms = self._backend.failed_ms
        if failed_ms is not None and self._clock.monotonic_ms() - failed_ms < _FAILING_MS:
            raise Unavailable("the storage refused what was last written")
        await self._backend.read(Call(commands.Look()))

    def feed(
        self, session: Session, mail_address: str, group_name: str | None, read_by: str | None
    ) -> Feed:
        """Return what gives a subscription the mail of a mailbox.

        Args:
            session: Whose subscription it is.
            mail_address: The mailbox; there need not be one yet.
            group_name: The consumer group that competes for the messages; None where everybody is
                given all of them.
            read_by: The group for which what everybody is given counts as read; None for none.
        """
        return Feed(
            self._backend,
            self._waiters,
            self._clock,
            lambda peek: self._peek(peek, session, session.agent),
            mail_address=mail_address,
            actor=session.actor(mail_address),
            # One of its own: what it holds is not given again to a FETCH of the connection.
            consumer=f"{session.consumer}/feed",
            asker=session.asker,
            group_name=group_name,
            members=self._members.setdefault((mail_address, group_name), Members()),
            read_by=read_by,
            is_stopping=lambda: self._stopping,
        )

    async def totals(self) -> Totals:
        """Count what the broker holds."""
        return await self._backend.read(Call(commands.CountAll()))

    async def _fetch(self, asked: Asked) -> Fetched:
        call = cast("Call[requests.Fetch]", asked.call)
        body = call.request
        again = self._fetching(asked, call) if body.group_name else self._peeking(asked, call)
        fetched = await self._wait_for_more(asked, body, again)
        if not fetched.messages:
            why = commands.WhyEmpty(group_name=body.group_name, position=fetched.position)
            fetched = replace(fetched, waiting=await self._backend.read(call.asking(why)))
        elif fetched.refetched or body.force_deliver:
            # A lease may now end earlier than they think, and a reset frees what was leased.
            self._waiters.notify(call.address)
        undo = commands.undo_of(call, fetched)
        # A reply that was given before may have reached whoever asked again.
        if asked.on_leased is not None and undo is not None and undo.request.copy == 1:
            asked.on_leased(undo)
        redelivered = sum(message.delivery_count > 1 for message in fetched.messages)
        if redelivered:
            self._observer.redelivered(redelivered)
        if asked.reads_on and fetched.cursors is not None:
            place = Place(fetched.generation, fetched.cursors)
            self._latest.put(asked.session.consumer, call.address, place)
        return fetched

    def _fetching(
        self, asked: Asked, call: Call[requests.Fetch]
    ) -> Callable[[Fetched | None], Awaitable[Fetched]]:
        async def again(last: Fetched | None) -> Fetched:
            here = call
            if last is not None:
                here = call.asking(replace(call.request, force_deliver=False), last.generation)
            return await self._backend.run(here, asked.session.asker)

        return again

    def _peeking(
        self, asked: Asked, call: Call[requests.Fetch]
    ) -> Callable[[Fetched | None], Awaitable[Fetched]]:
        """Return what reads without a group, or reads on where the connection did so before."""

        async def again(last: Fetched | None) -> Fetched:
            if last is not None:
                return await read(last.generation, last.position, last.cursors)
            place = None
            if asked.reads_on and not call.request.force_deliver:
                place = self._latest.get(asked.session.consumer, call.address)
            if place is not None:
                try:
                    return await read(place.generation, min(place.cursors), place.cursors)
                except MailboxNotFound:
                    pass  # another one may have taken the address
            return await read(None, None, None)

        async def read(
            generation: str | None, position: int | None, cursors: tuple[int, ...] | None
        ) -> Fetched:
            peek = commands.Peek(fetch=call.request, position=position, cursors=cursors)
            return await self._peek(call.asking(peek, generation), asked.session, call.agent)

        return again

    async def _peek(
        self, call: Call[commands.Peek], session: Session, agent: str | None
    ) -> Fetched:
        """Read without a group, which is a sign of life of an agent all the same."""
        fetched = await self._backend.read(call)
        next_sign_ms = await self._note_seen(session, agent)
        if next_sign_ms is None or fetched.messages:
            return fetched
        change_ms = fetched.next_change_ms
        sooner_ms = next_sign_ms if change_ms is None else min(change_ms, next_sign_ms)
        return replace(fetched, next_change_ms=sooner_ms)

    async def _note_seen(self, session: Session, name: str | None) -> int | None:
        """Note that an agent lives that has read without changing anything.

        Returns:
            The instant by which to note it again while it waits; None for never.
        """
        if name is None or not await self._backend.read(Call(commands.IsRegistered(name=name))):
            return None
        try:
            return await self._backend.run(Call(commands.Seen(name=name)), session.asker)
        except Mq9Error as error:  # what was asked for does not depend on it
            logger.warning("that %r lives could not be noted: %s", name, error)
            return None

    async def _wait_for_more(
        self,
        asked: Asked,
        body: requests.Fetch,
        again: Callable[[Fetched | None], Awaitable[Fetched]],
    ) -> Fetched:
        """Look until there is something or the wait is over; ``again`` gets what it last found."""
        deadline_ms = self._clock.monotonic_ms() + body.max_wait_ms
        fetched = None
        with self._waiters.joined(asked.call.address, body.group_name) as waiter:
            while True:
                waiter.begin()
                fetched = await again(fetched)
                left_ms = deadline_ms - self._clock.monotonic_ms()
                if fetched.messages or self._stopping or left_ms <= 0:
                    return fetched
                change_ms = fetched.next_change_ms
                with asked.watch.waiting():
                    await waiter.wait(
                        self._clock,
                        left_ms,
                        None if change_ms is None else change_ms - self._clock.now_ms(),
                        # So long a wait is begun again at its end.
                        ends=body.max_wait_ms < self._clock.longest_poll_ms,
                        delivers=fetched.next_delivery_ms is not None,
                    )

    async def _discover(self, asked: Asked) -> Discovered:
        call = cast("Call[requests.Discover]", asked.call)
        return await self._agents.find(call.request, call.actor)

    async def _whoami(self, asked: Asked) -> str | None:
        return asked.session.agent
