"""Finds the subscriptions of a subject, by wildcards and queue groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from mq9.wire.subjects import ONE, REST, has_wildcards

if TYPE_CHECKING:
    from mq9.server.subscriptions import Subscription


_WILDCARDS = (ONE, REST)


class _Node:
    """A node of the tree: the subscriptions that end here, and the nodes that follow."""

    __slots__ = ("beyond", "here", "size", "stretch", "wild")

    def __init__(self, stretch: str) -> None:
        self.lead_by(stretch)
        self.here: dict[int, Subscription] = {}  # by identity, to find any of them at once
        self.beyond: dict[str, _Node] = {}  # by the first token of their stretch

    def lead_by(self, stretch: str) -> None:
        """Change the tokens since the node before."""
        self.stretch = stretch
        self.size = stretch.count(".") + 1  # of tokens
        self.wild = has_wildcards(stretch)


class Router:
    """Subscriptions by subject, as a tree of tokens.

    A stretch of tokens where nothing branches off and nothing ends is one node, so that a
    subscription takes no more memory than its subject is long.
    """

    def __init__(self, choose: Callable[[Sequence[Subscription]], Subscription]) -> None:
        self._choose = choose
        self._root = _Node("")
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, subscription: Subscription) -> None:
        """Let a subscription take part. Harmless when it does already."""
        node, rest = self._root, subscription.subject
        while rest:
            first = _first(rest)
            following = node.beyond.get(first)
            if following is None:
                following = node.beyond[first] = _Node(rest)
            elif not _begins(rest, following.stretch):
                common = _common(rest, following.stretch)
                following = node.beyond[first] = _parted(following, common)
            node, rest = following, _without(rest, following.stretch)
        self._count += id(subscription) not in node.here
        node.here[id(subscription)] = subscription

    def remove(self, subscription: Subscription) -> None:
        """Let a subscription take part no longer. Harmless when it does not."""
        path = [self._root]
        rest = subscription.subject
        while rest:
            following = path[-1].beyond.get(_first(rest))
            if following is None or not _begins(rest, following.stretch):
                return
            path.append(following)
            rest = _without(rest, following.stretch)
        if path[-1].here.pop(id(subscription), None) is None:
            return
        self._count -= 1
        for before, node in zip(path[-2::-1], path[:0:-1], strict=True):
            if node.here or len(node.beyond) > 1:
                break
            first = _first(node.stretch)
            if node.beyond:
                [only] = node.beyond.values()
                only.lead_by(f"{node.stretch}.{only.stretch}")
                before.beyond[first] = only
            else:
                del before.beyond[first]

    def matching(self, subject: str) -> list[Subscription]:
        """Return every subscription that listens to a subject; none to one with an empty token."""
        return [one for node in _matching(self._root, subject) for one in node.here.values()]

    def has_interest(self, subject: str) -> bool:
        """Return whether a subject has a subscriber."""
        return any(node.here for node in _matching(self._root, subject))

    def route(
        self, subject: str, may: Callable[[Subscription], bool] | None = None
    ) -> list[Subscription]:
        """Return who gets a message: each subscription, but one member of each queue group."""
        receivers = []
        queues: dict[str, list[Subscription]] = {}
        for subscription in self.matching(subject):
            if may is not None and not may(subscription):
                continue
            if subscription.queue is None:
                receivers.append(subscription)
            else:
                queues.setdefault(subscription.queue, []).append(subscription)
        receivers += [self._choose(members) for members in queues.values()]
        return receivers


def _matching(root: _Node, subject: str) -> list[_Node]:
    """Return the nodes where what listens to a subject ends; none for one with an empty token.

    A node is visited at most once, and only if its first token may be where it is.
    """
    tokens = subject.split(".")
    found: list[_Node] = []
    # Nodes, and how many tokens and characters lead there.
    reached = [(root, 0, 0)] if all(tokens) else []
    while reached:
        node, place, start = reached.pop()
        if place == len(tokens):
            found.append(node)
            continue
        token = tokens[place]  # which may be a wildcard itself
        for first in _WILDCARDS if token in _WILDCARDS else (token, ONE, REST):
            following = node.beyond.get(first)
            if following is None:
                continue
            stretch = following.stretch
            if not following.wild:
                if _is_at(stretch, subject, start):
                    reached.append((following, place + following.size, start + len(stretch) + 1))
            elif (end := _end(stretch, tokens, place)) is not None:
                length = sum(map(len, tokens[place:end])) + end - place
                reached.append((following, end, start + length))
    return found


def _is_at(stretch: str, subject: str, start: int) -> bool:
    """Return whether tokens without wildcards are at this place of a subject."""
    end = start + len(stretch)
    return subject.startswith(stretch, start) and subject[end : end + 1] in ("", ".")


def _end(stretch: str, tokens: Sequence[str], place: int) -> int | None:
    """Return how many tokens lead to the end of a stretch; None when they lead elsewhere."""
    for want in stretch.split("."):
        if want == REST and place < len(tokens):
            return len(tokens)
        if place == len(tokens) or want not in (ONE, tokens[place]):
            return None
        place += 1
    return place


def _parted(node: _Node, stretch: str) -> _Node:
    """Return a new node at the end of a stretch that a node's own begins with, and it beyond."""
    before = _Node(stretch)
    node.lead_by(_without(node.stretch, stretch))
    before.beyond[_first(node.stretch)] = node
    return before


def _first(stretch: str) -> str:
    return stretch.partition(".")[0]


def _without(rest: str, stretch: str) -> str:
    return rest[len(stretch) + 1 :]


def _begins(rest: str, stretch: str) -> bool:
    return rest == stretch or rest.startswith(f"{stretch}.")


def _common(one: str, other: str) -> str:
    """Return the tokens that both begin with."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return ".".join(token for token, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
