"""Which subscriptions a subject reaches, wildcards and queue groups included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from mq9.wire.subjects import ONE, REST


class Interest(Protocol):
    """A subscription, as far as routing needs to know it."""

    @property
    def subject(self) -> str:
        """The subject it listens to, which may have wildcards."""

    @property
    def queue(self) -> str | None:
        """The queue group, of which one member gets each message."""


S = TypeVar("S", bound=Interest)


class _Node(Generic[S]):
    """What listens to the tokens on the way here, and what lies beyond them."""

    __slots__ = ("beyond", "here")

    def __init__(self) -> None:
        self.here: list[S] = []
        self.beyond: dict[str, _Node[S]] = {}


class Router(Generic[S]):
    """Subscriptions by subject, as a tree of tokens.

    Args:
        choose: Picks the member of a queue group that gets a message.
    """

    def __init__(self, choose: Callable[[Sequence[S]], S]) -> None:
        self._choose = choose
        self._root: _Node[S] = _Node()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, subscription: S) -> None:
        """Let a subscription take part."""
        node = self._root
        for token in subscription.subject.split("."):
            following = node.beyond.get(token)
            if following is None:
                following = node.beyond[token] = _Node()
            node = following
        node.here.append(subscription)
        self._count += 1

    def remove(self, subscription: S) -> None:
        """Let a subscription take part no longer. Harmless when it does not."""
        way = []
        node = self._root
        for token in subscription.subject.split("."):
            following = node.beyond.get(token)
            if following is None:
                return
            way.append((node, token))
            node = following
        for index, one in enumerate(node.here):
            if one is subscription:
                del node.here[index]
                self._count -= 1
                break
        for before, token in reversed(way):
            emptied = before.beyond[token]
            if emptied.here or emptied.beyond:
                break
            del before.beyond[token]

    def matching(self, subject: str) -> Iterator[S]:
        """Yield every subscription that listens to a subject."""
        for node in _matching(self._root, subject.split(".")):
            yield from node.here

    def has_interest(self, subject: str) -> bool:
        """Tell whether anybody listens to a subject."""
        return next(self.matching(subject), None) is not None

    def route(self, subject: str) -> list[S]:
        """Return who gets a message: each subscription, but one member of each queue group."""
        receivers = []
        queues: dict[str, list[S]] = {}
        for subscription in self.matching(subject):
            if subscription.queue is None:
                receivers.append(subscription)
            else:
                queues.setdefault(subscription.queue, []).append(subscription)
        receivers += [self._choose(members) for members in queues.values()]
        return receivers


def _matching(root: _Node[S], tokens: Sequence[str]) -> Iterator[_Node[S]]:
    nodes = [root]
    for token in tokens:
        following = []
        for node in nodes:
            rest = node.beyond.get(REST)
            if rest is not None:
                yield rest
            following += [node.beyond[one] for one in (token, ONE) if one in node.beyond]
        nodes = following
    yield from nodes
