"""A queue that divides one worker's time evenly among its clients.

It is fair queueing. The time that a client has used moves its next turn back, on a clock that runs
with the turns. The next turn is the one that would end first if it took as long as its client's
last one. So a client with small requests is served soon, whatever the others request. The requests
of one client stay in order.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST_REMEMBERED = 10_000  # clients of whom nothing waits


@dataclass(slots=True)
class _Account:
    """The time that a client has used, on the queue's clock."""

    begin: float = 0.0  # of the turn that it waits for or is served in
    free_at: float = 0.0  # when its next turn can begin
    last: float = 0.0  # seconds that its last turn took


class FairQueue(Generic[T]):
    """A queue with many producers, on any threads, and one consumer at a time.

    The consumer reports the time of each item with ``charge``. Until then it gets no other item of
    the same client. A new item wakes a waiting consumer that may take it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: dict[str, deque[T]] = {}
        self._last: deque[T] = deque()
        # A heap with one of each client who waits: when it would be over, its order, the client.
        self._turns: list[tuple[float, int, str]] = []
        self._accounts: dict[str, _Account] = {}
        self._order = itertools.count()
        self._now = 0.0
        self._served: set[str] = set()  # of whom an item was taken and not charged
        self._held: set[str] = set()  # of whom no item is taken
        self._length = 0
        self._woken = False

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._length

    def waiting(self, client: str) -> int:
        """Return how many items of a client wait."""
        with self._lock:
            return len(self._waiting.get(client, ()))

    def put(self, client: str, item: T) -> None:
        """Add an item behind those of the same client."""
        with self._lock:
            line = self._waiting.setdefault(client, deque())
            line.append(item)
            if len(line) == 1 and client not in self._served:
                self._line_up(client)
            self._length += 1

    def put_back(self, client: str, items: Sequence[T]) -> None:
        """Put the item that was taken last of a client back to the front, or parts of it."""
        with self._lock:
            self._waiting[client].extendleft(reversed(items))
            self._length += len(items)
            self._let_on(client)

    def hold(self, clients: Collection[str]) -> None:
        """Let the items of some clients wait until ``release``."""
        with self._lock:
            self._held.update(clients)
            self._turns = [turn for turn in self._turns if turn[-1] not in clients]
            heapq.heapify(self._turns)

    def release(self, clients: Collection[str]) -> None:
        """Let the items of clients that were held be taken again."""
        with self._lock:
            for client in clients:
                if client not in self._held:
                    continue
                self._held.remove(client)
                if self._waiting.get(client) and client not in self._served:
                    self._line_up(client)

    def put_last(self, item: T) -> None:
        """Add an item that is taken when nothing else waits."""
        with self._lock:
            self._last.append(item)
            self._length += 1

    def wake(self) -> None:
        """Let the consumer wait no longer, though there may be no item."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def wait(self, timeout: float) -> None:
        """Wait for an item, for ``wake`` or for the end of some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._length or self._woken, timeout)
            self._woken = False

    def take(self, most: float | None = None) -> T | None:
        """Return the next item, without waiting; None if there is none.

        An item of a client whose last one took more than ``most`` seconds stays in the queue.
        """
        with self._lock:
            line = self._last
            if self._turns:
                *_, client = self._turns[0]
                account = self._accounts[client]
                if most is not None and account.last > most:
                    return None
                heapq.heappop(self._turns)
                self._now = max(self._now, account.begin)
                self._served.add(client)
                line = self._waiting[client]
            if not line:
                return None
            self._length -= 1
            return line.popleft()

    def charge(self, client: str, seconds: float) -> None:
        """Say how long the item took that was taken of a client."""
        with self._lock:
            if client not in self._served:
                return  # it was one of the last
            account = self._accounts[client]
            account.free_at = account.begin + seconds
            account.last = seconds
            self._let_on(client)

    def _let_on(self, client: str) -> None:
        """Let a client wait for its next turn, if it has items."""
        self._served.remove(client)
        if self._waiting[client]:
            self._line_up(client)
        else:
            del self._waiting[client]
            if len(self._accounts) > _MOST_REMEMBERED + len(self._waiting):
                self._forget()

    def _line_up(self, client: str) -> None:
        if client in self._held:
            return
        account = self._accounts.setdefault(client, _Account())
        account.begin = max(self._now, account.free_at)
        heapq.heappush(self._turns, (account.begin + account.last, next(self._order), client))

    def _forget(self) -> None:
        """Forget the half of the clients, of whom nothing waits, whose turn would come first."""
        idle = [one for one in self._accounts if one not in self._waiting]
        idle.sort(key=lambda client: self._accounts[client].free_at)
        for client in idle[: len(idle) // 2]:
            del self._accounts[client]
