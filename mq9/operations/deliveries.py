"""Which mailbox, group and fetch result each fetched message came from."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

_MOST = 10_000  # messages that are remembered


@dataclass(frozen=True, slots=True)
class Delivery:
    """One fetch result, or what is assumed of a message that no remembered result held.

    Attributes:
        mail_address: The mailbox that it came from.
        group_name: The consumer group.
        consumer: Who fetched it.
        batch: The broker's token of the result; None on a broker without leases.
        msg_ids: Its messages in their order; empty when the result is not remembered.
    """

    mail_address: str
    group_name: str
    consumer: str
    batch: str | None = None
    msg_ids: tuple[int, ...] = ()

    def through(self, msg_id: int) -> tuple[int, ...]:
        """Return the messages of the result up to and including one of them."""
        return self.msg_ids[: self.msg_ids.index(msg_id) + 1]


class Leases(Protocol):
    """Is told of leases, to renew them."""

    def fetched(self, delivery: Delivery, lease_ms: int) -> None:
        """Hear of a fetch result, leased for so long from now."""

    def extended(self, deliveries: Mapping[int, Delivery], lease_ms: int) -> None:
        """Hear of messages that are leased for so long from now."""

    def let_go(self, deliveries: Mapping[int, Delivery], msg_ids: Iterable[int]) -> None:
        """Hear of messages that were dealt with or given back, fetched where the former were."""

    def ended(self, consumer: str, most: int) -> list[tuple[int, Delivery]]:
        """Return messages whose leases a consumer has lost, at the most so many, each once."""


class DeliveryMemory:
    """Remembers the latest fetch result of each message, apart for each scope.

    Args:
        most: How many messages are remembered over all scopes; the longest unused go first.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        # One message in a scope may have come from several mailboxes and groups.
        self._order: OrderedDict[tuple[str, int, str, str], None] = OrderedDict()
        self._let_go: dict[tuple[str, int, str, str], int] = {}  # which, and in what order
        self._numbers = itertools.count()
        self._found: dict[tuple[str, int], dict[tuple[str, str], Delivery]] = {}

    def of(self, scope: str, *, and_others: bool = False) -> Deliveries:
        """Return what is remembered for one scope, such as a consumer.

        Args:
            scope: Its name.
            and_others: Whether what no result of the scope held may come from other scopes.
        """
        return Deliveries(self, scope, and_others)

    def remember(self, scope: str, delivery: Delivery) -> None:
        """Note a fetch result for each of its messages."""
        place = delivery.mail_address, delivery.group_name
        for msg_id in delivery.msg_ids:
            self._found.setdefault((scope, msg_id), {})[place] = delivery
            key = (scope, msg_id, *place)
            self._order[key] = None
            self._order.move_to_end(key)
            self._let_go.pop(key, None)
        while len(self._order) > self._most:
            oldest, _ = self._order.popitem(last=False)
            self._let_go.pop(oldest, None)
            old_scope, msg_id, *old_place = oldest
            places = self._found[old_scope, msg_id]
            del places[old_place[0], old_place[1]]
            if not places:
                del self._found[old_scope, msg_id]

    def let_go(self, scope: str, delivery: Delivery, msg_id: int) -> None:
        """Note that a message was dealt with or given back."""
        key = (scope, msg_id, delivery.mail_address, delivery.group_name)
        if key in self._order:
            self._let_go[key] = next(self._numbers)

    def when_let_go(self, scope: str, delivery: Delivery, msg_id: int) -> int | None:
        """Return a number that grows with time; None for a message that is held."""
        return self._let_go.get((scope, msg_id, delivery.mail_address, delivery.group_name))

    def find(self, scope: str, msg_id: int) -> list[Delivery]:
        """Return the latest result with a message, for each mailbox and group it came from."""
        return list(self._found.get((scope, msg_id), {}).values())

    def find_anywhere(self, msg_id: int) -> list[Delivery]:
        """Return the same, whichever scopes they are remembered for."""
        return [
            delivery
            for (_, known), places in self._found.items()
            if known == msg_id
            for delivery in places.values()
        ]


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What is remembered for one scope, and for others where it may fall back to them."""

    _memory: DeliveryMemory
    _scope: str
    _and_others: bool = False

    def remember(self, delivery: Delivery) -> None:
        """Note a fetch result for each of its messages."""
        self._memory.remember(self._scope, delivery)

    def let_go(self, delivery: Delivery, msg_id: int) -> None:
        """Note that a message was dealt with or given back."""
        self._memory.let_go(self._scope, delivery, msg_id)

    def find(self, msg_id: int) -> list[Delivery]:
        """Return the latest result with a message, for each mailbox and group it came from."""
        return self._memory.find(self._scope, msg_id)

    def held(self, found: list[Delivery], msg_id: int) -> list[Delivery]:
        """Return which results with a message can be meant by who deals with it in order.

        That is where it is still held, or else where it was let go of last, by a call that is made
        again.
        """
        held = [one for one in found if self._when(one, msg_id) is None]
        return held or sorted(found, key=lambda one: self._when(one, msg_id) or 0)[-1:]

    def _when(self, delivery: Delivery, msg_id: int) -> int | None:
        return self._memory.when_let_go(self._scope, delivery, msg_id)

    def find_elsewhere(self, msg_id: int) -> list[Delivery]:
        """Return the results of other scopes with a message; none where those are not its own."""
        return self._memory.find_anywhere(msg_id) if self._and_others else []
