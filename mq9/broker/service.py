"""The broker's service: one request of the protocol in, one reply out.

The service reads requests, checks who may do what, turns verbs into commands for the backend, and
does the waiting of the long poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from mq9 import address as addresses
from mq9.broker import official
from mq9.broker.asked import (
    Asked,
    BrokerSession,
    LocalRequest,
    PublishedRequest,
    Stopwatch,
    known_error,
)
from mq9.broker.batches import AnswerSends, SendBatches
from mq9.broker.feed import Feed, Members
from mq9.broker.granted import GrantedLeases
from mq9.broker.observer import OK, SILENT, Observer
from mq9.broker.official import LatestReads, Place
from mq9.broker.waiters import Waiters
from mq9.clock import SteadyClock
from mq9.discovery.embeddings import Embeddings
from mq9.discovery.search import AgentSearch
from mq9.engine import commands
from mq9.engine.commands import (
    MOST_HELD,
    Call,
    Claimed,
    Outcome,
    PlainSend,
    is_plain,
)
from mq9.engine.machine import UNCHANGING
from mq9.errors import (
    InvalidRequest,
    MailboxNotFound,
    MessageNotFound,
    Mq9Error,
    Unavailable,
    from_reply,
)
from mq9.listings.listings import Listings
from mq9.models import Identity, Totals, Unread
from mq9.protocol import headers, replies, requests, subjects
from mq9.protocol.body import Body
from mq9.protocol.outcomes import Discovered, Fetched, Reply
from mq9.protocol.reserved import Reserved
from mq9.protocol.verbs import OlderVerbs, Verb, Wakes, verb_of
from mq9.storage import store
from mq9.storage.backend import Backend, LocalChange

R = TypeVar("R")

logger = logging.getLogger("mq9.broker")

SWEEP_INTERVAL_MS = 60_000
_FAILING_MS = 10_000  # how long the storage counts as failing after a failed write
_SUBJECTS = 1_024  # whose meaning is remembered
_NACKS = 256  # at once
_TOKEN_BYTES = 8  # of the token of a mailbox that is made
_UNKNOWN = "unknown"  # the verb of a subject that carries none


def _of_call(
    answer: Callable[[Call[Any]], Awaitable[Any]],
) -> Callable[[Asked], Awaitable[Any]]:
    return lambda asked: answer(asked.call)


class Service:
    """Answers requests from one backend, which wakes the same ``waiters``.

    ``older`` are verbs of older generations, and ``of_sdks`` those for clients that are known older
    SDKs.
    """

    def __init__(
        self,
        backend: Backend,
        waiters: Waiters,
        clock: SteadyClock,
        randomness: Callable[[int], bytes],
        *,
        observer: Observer | None,
        embeddings: Embeddings | None,
        older: OlderVerbs,
        of_sdks: OlderVerbs,
    ) -> None:
        self._backend = backend
        self._meanings = lru_cache(_SUBJECTS)(partial(subjects.meanings, older=older))
        self._meanings_to_sdks = lru_cache(_SUBJECTS)(partial(subjects.meanings, older=of_sdks))
        self._latest = LatestReads()
        self._granted = GrantedLeases()
        self._members: WeakValueDictionary[tuple[str, str | None], Members] = WeakValueDictionary()
        self._agents = AgentSearch(backend, embeddings)
        self._waiters = waiters
        self._clock = clock
        self._randomness = randomness
        self._observer = observer or SILENT
        self._batches = SendBatches(backend, waiters, self._observer)
        self._stopping = False
        self._next_sweep_ms = clock.monotonic_ms() + SWEEP_INTERVAL_MS
        # Requests that take more than one command and its outcome.
        self._special: dict[type[Body[Any]], Callable[[Asked], Awaitable[Any]]] = {
            requests.Fetch: self._fetch,
            requests.Discover: self._discover,
            requests.Whoami: self._whoami,
            **{kind: _of_call(answer) for kind, answer in Listings(backend).answers.items()},
        }

    def forget(self, connection: str) -> None:
        """Forget where a connection that has ended, by its ``consumer``, would have read on."""
        self._latest.forget(connection)

    def stop_waiting(self) -> None:
        """End every wait for mail, those to come included: a FETCH answers with what there is."""
        self._stopping = True
        self._waiters.wake_all()

    async def handle(self, request: PublishedRequest) -> bytes:
        """Answer one request. Never raises but when cancelled; a cancelled FETCH leases nothing.

        Requests of one client take effect in the order in which they were begun.
        """
        asked = self._read(request)
        return await self._answer(asked) if isinstance(asked, Asked) else asked

    def begin(
        self, request: PublishedRequest, answer: Callable[[bytes], None], *, at_once: bool
    ) -> asyncio.Task[None] | None:
        """Begin to answer one request; return the task that does, where that takes one.

        ``answer`` is called with the reply, perhaps before this returns. To cancel the task is for
        a FETCH, which then leases nothing and is not answered; other requests are carried out all
        the same. ``at_once``: whether that may be before a task that was made just now has run.
        """
        asked = self._read(request)
        if not isinstance(asked, Asked):
            answer(asked)
            return None
        if (
            not at_once
            or asked.verb.reads
            or asked.verb.request in self._special
            or asked.verb.request in UNCHANGING  # so that a cluster looks before it appends
            or asked.unread_of is not None
            or self._is_time_to_sweep
        ):
            return asyncio.create_task(self._answer_with(asked, answer))
        try:
            self._backend.begin(
                asked.call, asked.session.client, partial(self._carried_out, asked, answer)
            )
        except Exception as error:  # noqa: BLE001  # it is logged
            answer(self._refuse(asked.verb, asked.watch, error))
        return None

    def plain_address(self, subject: str) -> str | None:
        """Return the mailbox of SENDs for `begin_sends`; None where only `begin` takes them."""
        if not self._backend.takes_batches or self._is_time_to_sweep:
            return None
        try:
            meanings = self._meanings(subject)
        except Mq9Error:
            return None
        verb, named = meanings[-1]
        is_send = len(meanings) == 1 and verb.request is requests.Send and not named.priority
        return named.mail_address if is_send else None

    def begin_sends(
        self,
        session: BrokerSession,
        address: str,
        sends: Sequence[PlainSend],
        answer: AnswerSends,
    ) -> None:
        """Begin SENDs; see `SendBatches.begin`."""
        self._batches.begin(session, address, sends, answer)

    def _read(self, request: PublishedRequest) -> Asked | bytes:
        """Read a request, or return the reply that refuses it."""
        watch = Stopwatch(request.on_wait)
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
            reads_on = (
                isinstance(body, requests.Fetch)
                and encoding is None
                and session.is_told_apart
                and official.reads_on(body, request.payload)
            )
            if isinstance(body, requests.Fetch) and not request.wants_reply:
                raise InvalidRequest("reply: a FETCH without a reply subject is given nothing")  # noqa: TRY301  # told as any other
            session.refuse_change(verb, body)
            call = self._call(
                body, named.mail_address, request.payload, session, as_text=not as_base64
            )
        except Exception as error:  # noqa: BLE001  # it is logged
            return self._refuse(verb, watch, error)
        return Asked(verb, call, session, watch, unread_of, as_base64, reads_on, request.on_leased)

    async def _answer_with(self, asked: Asked, answer: Callable[[bytes], None]) -> None:
        answer(await self._answer(asked))

    async def _answer(self, asked: Asked) -> bytes:
        """Carry out a request; the reply."""
        try:
            reply = self._fields(asked, await self._carry_out(asked))
        except Exception as error:  # noqa: BLE001  # it is logged
            return self._refuse(asked.verb, asked.watch, error)
        return self._write(asked.verb.name, OK, asked.watch, reply)

    async def carry_out(self, request: LocalRequest[R]) -> Reply[R]:
        """Carry out a request of this process, in the order of `handle`."""
        body: Body[Any] = request.body
        session = request.session
        if (
            isinstance(body, requests.Send)
            and self._backend.takes_batches
            and request.unread_of is None
            and session.sends_plainly
            and is_plain(body)
        ):
            return await self._carry_out_send(request, body)
        watch = Stopwatch()
        verb = verb_of(type(body))
        try:
            if isinstance(body, requests.Register | requests.Report):
                body = body.decode(request.payload)  # it is a part of that
            session.refuse_change(verb, body)
            call = self._call(
                body,
                request.mail_address,
                request.payload,
                session,
                as_text=False,
                in_process=True,
            )
            reply = await self._carry_out(Asked(verb, call, session, watch, request.unread_of))
        except Exception as error:  # noqa: BLE001  # it is logged
            raise _own(self._refused(verb.name, watch, error)) from None
        self._observer.answered(verb.name, OK, watch.seconds)
        return reply

    async def _carry_out_send(self, request: LocalRequest[R], body: requests.Send) -> Reply[Any]:
        """Carry out a SEND of this process together with others of its client."""
        answered: asyncio.Future[int | Mq9Error] = asyncio.get_running_loop().create_future()
        send = PlainSend(body, body.id, request.payload, answered)
        address = request.mail_address
        self._batches.begin(request.session, address, [send], _answer_futures, _is_awaited)
        answer = await answered
        if self._is_time_to_sweep:
            await self._sweep_now()
        if isinstance(answer, int):
            return Reply(answer, None)
        raise _own(answer)

    async def _carry_out(self, asked: Asked) -> Reply[Any]:
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
            outcome = await self._backend.run(asked.call, asked.session.client)
            self._tell(asked, outcome)
        unread = None
        if asked.unread_of is not None:
            unread = await self._count_unread(asked, outcome, *asked.unread_of)
        # A FETCH that is cancelled there would have leased for no client.
        if asked.verb.request is not requests.Fetch and self._is_time_to_sweep:
            await self._sweep_now()
        return Reply(outcome, unread)

    def _carried_out(
        self, asked: Asked, answer: Callable[[bytes], None], outcome: Outcome[Any]
    ) -> None:
        try:
            value = outcome.result()
            self._tell(asked, value)
            reply = self._fields(asked, Reply(value))
        except Exception as error:  # noqa: BLE001  # it is logged
            answer(self._refuse(asked.verb, asked.watch, error))
        else:
            answer(self._write(asked.verb.name, OK, asked.watch, reply))

    def _tell(self, asked: Asked, outcome: Any) -> None:
        """Tell those who wait, and the observer, of the outcome of a command."""
        verb, call = asked.verb, asked.call
        asked.session.log_change(verb, call.address)
        if verb.wakes is Wakes.ITS_GROUPS:
            self._waiters.notify(call.address)
        elif verb.wakes is Wakes.EVERYBODY:
            self._waiters.wake(call.address)
        for address in commands.changed_addresses(call, outcome):
            self._waiters.notify(address)
        if isinstance(call.request, requests.Move) and outcome.is_dead_letter:
            self._observer.dead_lettered()

    def _fields(self, asked: Asked, reply: Reply[Any]) -> dict[str, Any]:
        """Return the fields of a reply."""
        verb = asked.verb
        how = {"as_base64": asked.as_base64} if verb.request.reads_messages else {}
        fields = verb.success(verb.reply(reply.outcome, **how))
        if reply.unread is not None:
            fields["unread"] = asdict(reply.unread)
        return fields

    def _refuse(self, verb: Verb | None, watch: Stopwatch, error: Exception) -> bytes:
        """Return the reply to a request that failed; ``verb`` is None where it has none."""
        name, failure = (_UNKNOWN, replies.failure) if verb is None else (verb.name, verb.failure)
        return replies.encode(failure(self._refused(name, watch, error)))

    def _refused(self, name: str, watch: Stopwatch, error: Exception) -> Mq9Error:
        """Count a failed request, and return the reply to its client."""
        known = known_error(name, error)
        self._observer.answered(name, known.code, watch.seconds)
        return known

    def _write(self, name: str, code: str, watch: Stopwatch, reply: dict[str, Any]) -> bytes:
        """Return a reply as bytes, and count it."""
        self._observer.answered(name, code, watch.seconds)
        return replies.encode(reply)

    @property
    def _is_time_to_sweep(self) -> bool:
        return self._clock.monotonic_ms() >= self._next_sweep_ms

    def _call(
        self,
        body: Body[Any],
        address: str,
        payload: bytes,
        session: BrokerSession,
        *,
        as_text: bool,
        in_process: bool = False,
    ) -> Call[Body[Any]]:
        """Return a call of a request: with its actor, and with random values for the engine."""
        self._batches.close(session.client)  # SENDs after this request are carried out later
        if (
            session.max_reply is not None
            and isinstance(body, requests.Fetch | requests.Query | requests.ReadConversation)
            and body.max_bytes > session.max_reply
        ):
            body = replace(body, max_bytes=session.max_reply)
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
        elif isinstance(body, requests.Lookup):
            address = body.wrote_to or ""
        elif isinstance(body, (requests.Unregister, requests.Report)):
            session.refuse_reserved(body.name, body.mailbox)
        elif body.lists_addresses:
            actor = replace(session.actor(), may_list=in_process or session.is_somebody)
        return Call(
            body,
            address,
            actor
            or session.actor(
                address, body.other_address, body.destination(address), body.overdue_address
            ),
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
                # It was leased, and its client has left.
                undo = commands.Undo(batch=outcome.batch)
                self.undo_soon(Call(undo, asked.call.address), asked.session.client)
            raise
        except Mq9Error as error:
            # The request is done; an extra must not cost its reply.
            logger.warning("could not count the unread mail of %s: %s", address, error)
            return None

    def undo_soon(self, undo: Call[commands.Undo], client: str) -> None:
        """Take back, soon, the leases of a FETCH whose reply reached no client."""
        self._backend.undo_soon(undo, client)
        self._waiters.notify(undo.address)

    async def _sweep_now(self) -> None:
        """Remove some expired rows; the next request removes more."""
        now = self._clock.monotonic_ms()
        try:
            if await self._sweep():
                self._next_sweep_ms = now
        except Mq9Error as error:
            logger.warning("could not sweep: %s", error)

    async def _sweep(self) -> bool:
        """Remove some expired rows, and shorten the file; return whether there may be more."""
        self._next_sweep_ms = self._clock.monotonic_ms() + SWEEP_INTERVAL_MS
        sweep = commands.Sweep()
        removed = await self._backend.run(Call(sweep))
        freed = await self._backend.run(
            Call(LocalChange(lambda connection: store.give_back_pages(connection, sweep.most)))
        )
        return max(removed, freed) >= sweep.most

    def end_threads(self) -> None:
        """End the threads that only make answers better or faster, until they are needed again."""
        self._agents.close()

    async def close(self) -> None:
        """Finish the accepted commands, and wake all waiting requests."""
        await self._backend.close()
        self.closed()

    def closed(self) -> None:
        """Close all but the backend, which is closed already, and wake all waiting requests."""
        self.end_threads()
        self._waiters.wake_all()

    @property
    def waiting(self) -> int:
        """Number of FETCHes and stateless reads that wait for mail."""
        return len(self._waiters)

    @property
    def clock_offset_ms(self) -> int:
        """Milliseconds of the broker's time ahead of its clock; negative while it is held back."""
        return self._clock.offset_ms

    async def sweep(self) -> None:
        """Remove all that is over, a bounded part at a time. Requests do so now and then, too."""
        more = True
        while more:
            more = await self._sweep()
            await asyncio.sleep(0)  # so that requests get their turn

    async def claim(self, reserved: Reserved) -> Claimed:
        """Let configured agents own the mailboxes and registrations of their names."""
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

    async def give_back_leases(self, stays: Callable[[str], bool]) -> None:
        """Give back the messages that agents hold which do not stay, so that others get them."""
        nacks = self._granted.take(stays)
        for first in range(0, len(nacks), _NACKS):
            await asyncio.gather(*map(self._give_back, nacks[first : first + _NACKS]))

    async def _give_back(self, nack: Call[requests.Nack]) -> None:
        try:
            due_sooner = await self._backend.run(nack)
        except (MessageNotFound, MailboxNotFound):
            return  # it was acked, or is gone
        except Mq9Error as error:
            logger.warning("a lease of a removed agent ends in its time: %s", error)
            return
        for address in {nack.address, due_sooner or nack.address}:
            self._waiters.notify(address)

    async def check(self) -> None:
        """See whether the storage works: it can be read, and did not refuse a write just now."""
        failed_ms = self._backend.failed_ms
        if failed_ms is not None and self._clock.monotonic_ms() - failed_ms < _FAILING_MS:
            raise Unavailable("the storage refused what was last written")
        await self._backend.read(Call(commands.Look()))

    def feed(
        self, session: BrokerSession, mail_address: str, group_name: str | None, read_by: str | None
    ) -> Feed:
        """Return the feed of a mailbox for a subscription; the mailbox may not exist yet.

        The members of a group compete for the messages. Without a group, each subscription gets all
        of them, and they count as read for the group ``read_by``, if it is given.
        """
        return Feed(
            self._backend,
            self._waiters,
            self._clock,
            lambda peek: self._peek(peek, session, session.agent),
            mail_address=mail_address,
            actor=session.actor(mail_address),
            # A consumer of its own, so that a FETCH of the connection does not get its messages
            # again.
            consumer=f"{session.consumer}/feed",
            client=session.client,
            group_name=group_name,
            members=self._members.setdefault((mail_address, group_name), Members()),
            read_by=read_by,
            is_stopping=lambda: self._stopping,
        )

    async def totals(self, patterns: Sequence[str] = (), most: int = 0) -> Totals:
        """Return the totals of the broker, and of at most so many mailboxes that match."""
        count = commands.CountAll(patterns=tuple(patterns), most=most)
        return await self._backend.read(Call(count))

    async def _fetch(self, asked: Asked) -> Fetched:
        call = cast("Call[requests.Fetch]", asked.call)
        body = call.request
        again = self._fetching(asked, call) if body.group_name else self._peeking(asked, call)
        fetched = await self._wait_for_more(asked, body, again)
        if not fetched.messages:
            why = commands.WhyEmpty(group_name=body.group_name, position=fetched.position)
            fetched = replace(fetched, waiting=await self._backend.read(call.with_request(why)))
        elif fetched.refetched or body.force_deliver:
            # A lease may end earlier now, and a reset ends leases.
            self._waiters.notify(call.address)
        if body.list_held:
            fetched = await self._with_held(asked, call, fetched)
        undo = commands.undo_of(call, fetched)
        if undo is not None:
            asked.session.log_change(asked.verb, call.address)
            if asked.session.agent is not None:
                self._granted.note(asked.session.agent, call, fetched)
        # An earlier reply may have reached the client, after its repeated request.
        if asked.on_leased is not None and undo is not None and undo.request.copy == 1:
            asked.on_leased(undo)
        redelivered = sum(message.delivery_count > 1 for message in fetched.messages)
        if redelivered:
            self._observer.redelivered(redelivered)
        if asked.reads_on and fetched.cursors is not None:
            place = Place(fetched.generation, fetched.cursors)
            self._latest.put(asked.session.consumer, call.address, place)
        return fetched

    async def _with_held(
        self, asked: Asked, call: Call[requests.Fetch], fetched: Fetched
    ) -> Fetched:
        """Add the other held messages to a reply."""
        assert call.request.group_name is not None  # noqa: S101  # the request was checked
        listing = commands.ListHeld(
            group_name=call.request.group_name,
            without=tuple(message.msg_id for message in fetched.messages),
        )
        try:
            held = await self._backend.read(call.with_request(listing))
        except asyncio.CancelledError:
            undo = commands.undo_of(call, fetched)
            if undo is not None:  # it was leased, and its client has left
                self.undo_soon(undo, asked.session.client)
            raise
        except Mq9Error as error:  # the reply must not be lost over this
            logger.warning("could not list what is held of %s: %s", call.address, error)
            return fetched
        return replace(fetched, held=held[:MOST_HELD], held_more=len(held) > MOST_HELD)

    def _fetching(
        self, asked: Asked, call: Call[requests.Fetch]
    ) -> Callable[[Fetched | None, int], Awaitable[Fetched]]:
        async def again(last: Fetched | None, min_msgs: int) -> Fetched:
            here = call
            if last is not None:
                request = replace(call.request, force_deliver=False, min_msgs=min_msgs)
                here = call.with_request(request, last.generation)
            elif min_msgs != call.request.min_msgs:
                here = replace(call, request=replace(call.request, min_msgs=min_msgs))
            return await self._backend.run(here, asked.session.client)

        return again

    def _peeking(
        self, asked: Asked, call: Call[requests.Fetch]
    ) -> Callable[[Fetched | None, int], Awaitable[Fetched]]:
        """Return what reads without a group, or reads on where the connection did so before."""

        async def again(last: Fetched | None, _min_msgs: int) -> Fetched:
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
            return await self._peek(call.with_request(peek, generation), asked.session, call.agent)

        return again

    async def _peek(
        self, call: Call[commands.Peek], session: BrokerSession, agent: str | None
    ) -> Fetched:
        """Read without a group, which is a sign of life of an agent all the same."""
        fetched = await self._backend.read(call)
        next_sign_ms = None if session.is_reader else await self._note_seen(session, agent)
        if next_sign_ms is None or fetched.messages:
            return fetched
        change_ms = fetched.next_change_ms
        sooner_ms = next_sign_ms if change_ms is None else min(change_ms, next_sign_ms)
        return replace(fetched, next_change_ms=sooner_ms)

    async def _note_seen(self, session: BrokerSession, name: str | None) -> int | None:
        """Note that an agent lives that has only read; the instant by which to note it again."""
        if name is None or not await self._backend.read(Call(commands.IsRegistered(name=name))):
            return None
        try:
            return await self._backend.run(Call(commands.Seen(name=name)), session.client)
        except Mq9Error as error:  # the request does not depend on it
            logger.warning("that %r lives could not be noted: %s", name, error)
            return None

    async def _wait_for_more(
        self,
        asked: Asked,
        body: requests.Fetch,
        again: Callable[[Fetched | None, int], Awaitable[Fetched]],
    ) -> Fetched:
        """Look until there are enough messages or the wait ends; ``again`` gets the last result.

        A FETCH that lingers waits for a full reply, then for ``min_msgs``. At the end of its wait
        any number is enough.
        """
        deadline_ms = self._clock.monotonic_ms() + body.max_wait_ms
        closes_ms: int | None = None  # when a FETCH that found enough has lingered
        fetched = None
        # A FETCH that collects leaves messages to its group, so it looks for itself alone.
        line = None if body.collects else body.group_name
        with self._waiters.joined(asked.call.address, line) as waiter:
            while True:
                waiter.begin()
                now_ms = self._clock.monotonic_ms()
                over = self._stopping or now_ms >= deadline_ms
                lingers = body.linger_ms and (closes_ms is None or now_ms < closes_ms)
                enough = 1 if over else body.num_msgs if lingers else body.min_msgs
                fetched = await again(fetched, enough)
                if fetched.messages or over:
                    return fetched
                if fetched.available < body.min_msgs:
                    closes_ms = None  # none yet, or another consumer took them
                elif closes_ms is None:
                    closes_ms = now_ms + body.linger_ms
                until_ms = deadline_ms if closes_ms is None else min(closes_ms, deadline_ms)
                change_ms = fetched.next_change_ms
                with asked.watch.waiting():
                    await waiter.wait(
                        self._clock,
                        max(0, until_ms - self._clock.monotonic_ms()),
                        None if change_ms is None else change_ms - self._clock.now_ms(),
                        # So long a wait is begun again at its end.
                        ends=body.max_wait_ms < self._clock.longest_poll_ms,
                        delivers=fetched.next_delivery_ms is not None,
                    )

    async def _discover(self, asked: Asked) -> Discovered:
        call = cast("Call[requests.Discover]", asked.call)
        return await self._agents.find(call.request, call.actor)

    async def _whoami(self, asked: Asked) -> Identity:
        return asked.session.identity


def _own(error: Mq9Error) -> Mq9Error:
    """Return an equal error of the client's own, since others may have got the same one."""
    return from_reply(replies.failure(error)["error"], error.code)


def _answer_futures(sends: Sequence[PlainSend], answers: Sequence[int | Mq9Error]) -> None:
    for send, answer in zip(sends, answers, strict=True):
        if not send.origin.done():
            send.origin.set_result(answer)


def _is_awaited(send: PlainSend) -> bool:
    return not send.origin.cancelled()
