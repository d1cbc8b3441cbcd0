"""The leases of what sessions have fetched, renewed as long as the session lasts."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mcp_server.timing import in_time
from mq9 import MessageNotFound, Mq9Client, Mq9Error
from mq9.clock import sleep
from mq9.operations.deliveries import Delivery

_logger = logging.getLogger("mq9.mcp")

_MAX_MESSAGES = 1_000  # of one agent; those that were fetched first are dropped first
_MIN_LEASE_MS = 1_000
_CHECKS_PER_LEASE = 4
_GIVE_BACK_TIMEOUT_S = 3.0

_Place = tuple[str, str, str]  # mailbox, group, consumer


@dataclass(slots=True)
class _Held:
    """A lease, by the client's monotonic clock in milliseconds.

    Attributes:
        renewable_until: The latest end that it may be renewed to.
        until: When it ends.
        batch: The token of the fetch.
    """

    renewable_until: int
    until: int
    batch: str | None


class LeaseKeeper:
    """Renews the leases of one agent, each until the session ends that fetched the message.

    Leases of what is acknowledged, given back or lost are not renewed.

    Args:
        client: The agent's connection.
        lease_ms: For how many milliseconds a lease is renewed.
        max_ms: How many milliseconds after its fetch a message may be leased at the most.
    """

    def __init__(self, client: Mq9Client, lease_ms: int, max_ms: int) -> None:
        self._client = client
        self._lease_ms = lease_ms
        self._max_ms = max_ms
        self._held: OrderedDict[tuple[_Place, int], _Held] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    def fetched(self, delivery: Delivery, lease_ms: int) -> None:
        """Begin to renew the leases of what was fetched just now."""
        now = self._now()
        for msg_id in delivery.msg_ids:
            key = _place(delivery), msg_id
            self._held[key] = _Held(now + self._max_ms, now + lease_ms, delivery.batch)
            self._held.move_to_end(key)
        while len(self._held) > _MAX_MESSAGES:
            self._held.popitem(last=False)
        if self._held and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    def extended(self, deliveries: Mapping[int, Delivery], lease_ms: int) -> None:
        """Note when leases end that the agent has renewed itself just now."""
        until = self._now() + lease_ms
        for msg_id, delivery in deliveries.items():
            held = self._held.get((_place(delivery), msg_id))
            if held is not None:
                held.until = until

    def let_go(self, deliveries: Mapping[int, Delivery], msg_ids: Iterable[int]) -> None:
        """Stop renewing messages that were acknowledged or given back.

        Args:
            deliveries: Where some messages were fetched, all of them from one place.
            msg_ids: The messages, these or others from there.
        """
        places = {_place(one) for one in deliveries.values()}
        for msg_id in msg_ids:
            for place in places:
                self._held.pop((place, msg_id), None)

    def end(self, consumer: str) -> None:
        """Stop renewing the leases of a consumer, whose session has ended."""
        for key in [key for key in self._held if key[0][2] == consumer]:
            del self._held[key]

    async def close(self) -> None:
        """Give back what is held, and stop; to be called before the connection is closed."""
        held = dict(self._held)
        self._held.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if not held:
            return
        try:
            await in_time(self._client.clock, _GIVE_BACK_TIMEOUT_S, self._give_back(held))
        except TimeoutError:
            _logger.warning("%d messages could not be given back in time", len(held))

    async def _give_back(self, held: Mapping[tuple[_Place, int], _Held]) -> None:
        for ((address, group, consumer), msg_id), one in held.items():
            try:
                await self._client.nack(address, group, msg_id, batch=one.batch, consumer=consumer)
            except MessageNotFound:
                continue  # it was acknowledged, deleted or has expired
            except Mq9Error as error:
                _logger.warning("what is held could not be given back: %s", error)
                return

    async def _run(self) -> None:
        while self._held:
            await sleep(self._client.clock, self._lease_ms / _CHECKS_PER_LEASE / 1000)
            for (place, lease_ms), msg_ids in self._due().items():
                try:
                    await self._renew(place, lease_ms, msg_ids)
                except Mq9Error as error:
                    _logger.info("leases in %s could not be renewed: %s", place[0], error)

    def _due(self) -> dict[tuple[_Place, int], list[int]]:
        """Return what has to be renewed now, by place and for how long; drop what has ended."""
        now = self._now()
        due: dict[tuple[_Place, int], list[int]] = defaultdict(list)
        for (place, msg_id), held in list(self._held.items()):
            lease_ms = min(self._lease_ms, held.renewable_until - now)
            if held.until <= now:
                del self._held[place, msg_id]
            elif held.until - now <= self._lease_ms / 2 and held.until < held.renewable_until:
                due[place, max(lease_ms, _MIN_LEASE_MS)].append(msg_id)
        return due

    async def _renew(self, place: _Place, lease_ms: int, msg_ids: list[int]) -> None:
        address, group, consumer = place
        began = self._now()
        renewed = await self._client.extend(
            address, group, msg_ids, lease_ms=lease_ms, consumer=consumer
        )
        still = set(renewed.extended)
        for msg_id in msg_ids:
            held = self._held.get((place, msg_id))
            if held is None:
                continue
            if msg_id in still:
                held.until = began + lease_ms
            else:
                del self._held[place, msg_id]

    def _now(self) -> int:
        return self._client.clock.monotonic_ms()


def _place(delivery: Delivery) -> _Place:
    return delivery.mail_address, delivery.group_name, delivery.consumer
