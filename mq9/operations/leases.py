"""Fetched messages: their mailboxes, and the leases that are renewed or have ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass

from mq9.client.client import Mq9Client
from mq9.clock import sleep
from mq9.errors import MessageNotFound, Mq9Error

_MOST = 10_000  # messages that are remembered


@dataclass(frozen=True, slots=True)
class FetchedFrom:
    """One fetch result, or an assumption about a message of no remembered result."""

    mail_address: str
    group_name: str
    consumer: str  # empty for the session of the agent that had it last, whichever that was
    batch: str | None = None  # the broker's token; None on a broker without leases
    msg_ids: tuple[int, ...] = ()  # in their order; empty when the result is not remembered
    call_id: str | None = None  # of the call that it answered, the same when that is made again

    def through(self, msg_id: int) -> tuple[int, ...]:
        """Return the messages of the result up to and including one of them."""
        return self.msg_ids[: self.msg_ids.index(msg_id) + 1]


@dataclass(slots=True)
class _Known:
    delivery: FetchedFrom
    let_go: int | None = None  # a number that grows with time; None while it is held
    is_shown: bool = False  # whether the call that fetched it was answered


class DeliveryMemory:
    """Remembers the latest fetch result of each of ``most`` messages, apart for each scope."""

    def __init__(self, most: int = _MOST) -> None:
        self.most = most
        self.numbers = itertools.count()
        # One message in a scope may have come from several mailboxes and groups.
        self.order: OrderedDict[tuple[str, int, tuple[str, str]], None] = OrderedDict()
        self.known: dict[tuple[str, int], dict[tuple[str, str], _Known]] = {}

    def of(self, scope: str, *, and_others: bool = False) -> Deliveries:
        """Return the remembered deliveries of one scope, such as a consumer, or else of others."""
        return Deliveries(self, scope, and_others)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The memory of one scope, and of others where it may fall back to them."""

    _memory: DeliveryMemory
    _scope: str
    and_others: bool = False

    def remember(self, delivery: FetchedFrom) -> None:
        """Note a fetch result for each of its messages."""
        order, known = self._memory.order, self._memory.known
        place = delivery.mail_address, delivery.group_name
        for msg_id in delivery.msg_ids:
            known.setdefault((self._scope, msg_id), {})[place] = _Known(delivery)
            order[self._scope, msg_id, place] = None
            order.move_to_end((self._scope, msg_id, place))
        while len(order) > self._memory.most:
            (scope, msg_id, old_place), _ = order.popitem(last=False)
            places = known[scope, msg_id]
            del places[old_place]
            if not places:
                del known[scope, msg_id]

    def shown(self, delivery: FetchedFrom, msg_ids: Iterable[int]) -> None:
        """Note that the caller got messages of a mailbox and group."""
        for msg_id in msg_ids:
            known = self._known(msg_id).get((delivery.mail_address, delivery.group_name))
            if known is not None:
                known.is_shown = True

    def is_shown(self, delivery: FetchedFrom, msg_id: int) -> bool:
        """Return whether another call than that of ``delivery`` got a message."""
        known = self._known(msg_id).get((delivery.mail_address, delivery.group_name))
        if known is None or not known.is_shown:
            return False
        return delivery.call_id is None or delivery.call_id != known.delivery.call_id

    def let_go(self, delivery: FetchedFrom, msg_id: int) -> None:
        """Note that a message was acked or given back."""
        known = self._known(msg_id).get((delivery.mail_address, delivery.group_name))
        if known is not None:
            known.let_go = next(self._memory.numbers)

    def find(self, msg_id: int) -> list[FetchedFrom]:
        """Return the latest result with a message, for each mailbox and group it came from."""
        return [one.delivery for one in self._known(msg_id).values()]

    def held(self, found: list[FetchedFrom], msg_id: int) -> list[FetchedFrom]:
        """Return the results that still hold a message, else the one that let it go last."""
        known = self._known(msg_id)
        let_go = {place: one.let_go for place, one in known.items() if one.let_go is not None}
        held = [one for one in found if (one.mail_address, one.group_name) not in let_go]
        return held or [max(found, key=lambda one: let_go[one.mail_address, one.group_name])]

    def find_elsewhere(self, msg_id: int) -> list[FetchedFrom]:
        """Return the results of other scopes with a message; none where those are not its own."""
        return [
            one.delivery
            for (_, known), places in (self._memory.known.items() if self.and_others else ())
            if known == msg_id
            for one in places.values()
        ]

    def _known(self, msg_id: int) -> dict[tuple[str, str], _Known]:
        return self._memory.known.get((self._scope, msg_id), {})


_logger = logging.getLogger("mq9.operations")

_MAX_MESSAGES = 1_000  # of one agent; those that were fetched first are dropped first
_MIN_LEASE_MS = 1_000
_CHECKS_PER_LEASE = 4

_Place = tuple[str, str, str]  # mailbox, group, consumer


@dataclass(slots=True)
class _Held:
    delivery: FetchedFrom
    renewable_until: int  # both in milliseconds of the client's monotonic clock
    until: int


class LeaseKeeper:
    """Renews the leases of one agent, and notes the ended ones.

    Leases of messages that were acked or given back are not renewed. Call ``fetched``, ``extended``
    and ``give_back`` on one event loop, which renews the leases, and the other methods on any
    thread. ``max_ms`` counts from the fetch; 0: leases are never renewed. It also notes the last
    call of each session of the agent, so that another session can take over from a silent one.
    """

    def __init__(self, client: Mq9Client, lease_ms: int, max_ms: int) -> None:
        self._client = client
        self._lease_ms = lease_ms
        self._max_ms = max_ms
        self._lock = threading.RLock()
        self._held: OrderedDict[tuple[_Place, int], _Held] = OrderedDict()
        self._called: OrderedDict[str, int] = OrderedDict()  # when, by consumer
        self._over: deque[str] = deque()  # consumers to forget
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def fetched(self, delivery: FetchedFrom, lease_ms: int) -> None:
        """Start to renew the leases of fetched messages."""
        with self._lock:
            self._forget_what_is_over()
            now = self._now()
            for msg_id in delivery.msg_ids:
                self._hold(delivery, msg_id, _Held(delivery, now + self._max_ms, now + lease_ms))
        self._renew_in_time()

    def extended(self, deliveries: Mapping[int, FetchedFrom], lease_ms: int, total_ms: int) -> None:
        """Note leases that the agent has renewed just now, and for how long it wants them."""
        now = self._now()
        with self._lock:
            for msg_id, delivery in deliveries.items():
                self._hold(delivery, msg_id, _Held(delivery, now + total_ms, now + lease_ms))
        self._renew_in_time()

    def _hold(self, delivery: FetchedFrom, msg_id: int, held: _Held) -> None:
        key = _place(delivery), msg_id
        self._held[key] = held
        self._held.move_to_end(key)
        while len(self._held) > _MAX_MESSAGES:
            self._held.popitem(last=False)

    def kept_ms(self, lease_ms: int) -> int:
        """Return for how long a message stays leased that is fetched now, if nothing ends."""
        return max(lease_ms, self._max_ms)

    def kept_until_ms(self, delivery: FetchedFrom, msg_id: int) -> int | None:
        """Return when a lease ends for good, by the monotonic clock; None where it is not known."""
        with self._lock:
            held = self._held.get((_place(delivery), msg_id))
            return None if held is None else max(held.until, held.renewable_until)

    def called(self, consumer: str) -> None:
        """Note that a session of the agent makes a call."""
        with self._lock:
            self._called[consumer] = self._now()
            self._called.move_to_end(consumer)
            while len(self._called) > _MAX_MESSAGES:
                self._called.popitem(last=False)

    def held_by_silent(
        self, mail_address: str, group_name: str, consumer: str, silent_ms: int
    ) -> dict[int, FetchedFrom]:
        """Return what other sessions hold that have called, but not for ``silent_ms``."""
        with self._lock:
            self._forget_what_is_over()
            before = self._now() - silent_ms
            return {
                msg_id: one.delivery
                for ((address, group, holder), msg_id), one in self._held.items()
                if (address, group) == (mail_address, group_name)
                and not is_of(holder, consumer)
                and self._called.get(holder, before + 1) <= before
            }

    def let_go(self, deliveries: Mapping[int, FetchedFrom], msg_ids: Iterable[int]) -> None:
        """Stop renewing messages that were acked or given back, by any session."""
        places = {_place(one) for one in deliveries.values()}
        with self._lock:
            for msg_id in msg_ids:
                for place in places:
                    self._held.pop((place, msg_id), None)

    def ended(self, consumer: str, most: int) -> list[tuple[int, FetchedFrom]]:
        """Return messages whose leases a consumer or its branches have lost, each of them once."""
        with self._lock:
            self._forget_what_is_over()
            now = self._now()
            found = [
                key
                for key, held in self._held.items()
                if held.until <= now and is_of(key[0][2], consumer)
            ]
            return [(key[1], self._held.pop(key).delivery) for key in found[:most]]

    def end(self, consumer: str) -> None:
        """Forget the leases of a consumer that has ended, and of its branches; takes no lock."""
        self._over.append(consumer)

    def stop(self) -> None:
        """Renew no more, and let the leases end by themselves."""
        self._stopped = True

    async def give_back(self) -> None:
        """Give back all leases, and stop. Call it before the connection is closed."""
        with self._lock:
            self._forget_what_is_over()
            held = dict(self._held)
            self._held.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for ((address, group, consumer), msg_id), one in held.items():
            batch = one.delivery.batch
            try:
                await self._client.nack(address, group, msg_id, batch=batch, consumer=consumer)
            except MessageNotFound:
                continue  # it was acknowledged, deleted or has expired
            except Mq9Error as error:
                _logger.warning("what is held could not be given back: %s", error)
                return

    def _renew_in_time(self) -> None:
        if self._is_renewing() and (self._task is None or self._task.done()):
            # Not in the context of the call, which would outlive its run and its spans.
            self._task = asyncio.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        while self._is_renewing():
            seconds = self._lease_ms / _CHECKS_PER_LEASE / 1000
            await sleep(self._client.clock, seconds, background=True)
            self._forget_what_is_over()
            for (place, lease_ms), msg_ids in self._due().items():
                try:
                    await self._renew(place, lease_ms, msg_ids)
                except Mq9Error as error:
                    _logger.info("leases in %s could not be renewed: %s", place[0], error)

    def _is_renewing(self) -> bool:
        now = self._now()
        with self._lock:
            return not self._stopped and any(
                now < one.until < one.renewable_until for one in self._held.values()
            )

    def _due(self) -> dict[tuple[_Place, int], list[int]]:
        """Return the leases to renew now, by place and duration."""
        if self._stopped:
            return {}
        now = self._now()
        due: dict[tuple[_Place, int], list[int]] = defaultdict(list)
        with self._lock:
            for (place, msg_id), held in self._held.items():
                lease_ms = min(self._lease_ms, held.renewable_until - now)
                soon = now < held.until <= now + self._lease_ms / 2
                if soon and held.until < held.renewable_until:
                    due[place, max(lease_ms, _MIN_LEASE_MS)].append(msg_id)
        return due

    def _forget_what_is_over(self) -> None:
        with self._lock:
            while self._over:
                consumer = self._over.popleft()
                for key in [key for key in self._held if is_of(key[0][2], consumer)]:
                    del self._held[key]

    async def _renew(self, place: _Place, lease_ms: int, msg_ids: list[int]) -> None:
        address, group, consumer = place
        began = self._now()
        renewed = await self._client.extend(
            address, group, msg_ids, lease_ms=lease_ms, consumer=consumer
        )
        still = set(renewed.extended)
        with self._lock:
            for msg_id in msg_ids:
                held = self._held.get((place, msg_id))
                if held is not None:
                    held.until = began + lease_ms if msg_id in still else began

    def _now(self) -> int:
        return self._client.clock.monotonic_ms()


def is_of(consumer: str, whole: str) -> bool:
    """Return whether a consumer is another one, or a branch of it."""
    return consumer == whole or consumer.startswith(f"{whole}#")


def _place(delivery: FetchedFrom) -> _Place:
    return delivery.mail_address, delivery.group_name, delivery.consumer
