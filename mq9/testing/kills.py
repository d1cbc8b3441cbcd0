"""Which clients are to be killed, and at which of their requests."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from mq9.client.client import Mq9Client
from mq9.protocol.requests import Fetch
from mq9.protocol.verbs import Verb


@dataclass(slots=True)
class _Kill:
    client: Mq9Client
    session: str
    verb: Verb
    left: int
    is_after: bool


class Kills:
    """Kills clients at requests that were named before."""

    def __init__(self) -> None:
        self._ordered: list[_Kill] = []

    def order(
        self, client: Mq9Client, session: str, verb: Verb, count: int, *, is_after: bool
    ) -> None:
        """Have a client killed at one of its requests.

        Args:
            client: The client.
            session: The consumer that its connection stands for.
            verb: At a request of this verb.
            count: At which one from now on, 1 for the next.
            is_after: Whether the request is carried out before. What is refused does not count
                then, nor a FETCH that finds nothing.
        """
        self._ordered.append(_Kill(client, session, verb, count, is_after))

    def before(self, session: str, verb: Verb) -> bool:
        """Count a request that has come, and tell whether its client was killed at it."""
        return self._count(self._ordered_at(session, verb, is_after=False))

    def after(self, session: str, verb: Verb, reply: bytes) -> bool:
        """Count a request that was carried out, and tell whether its client was killed at it."""
        ordered = self._ordered_at(session, verb, is_after=True)
        return bool(ordered) and _counts(verb, reply) and self._count(ordered)

    def _ordered_at(self, session: str, verb: Verb, *, is_after: bool) -> list[_Kill]:
        at = session, verb, is_after
        return [one for one in self._ordered if (one.session, one.verb, one.is_after) == at]

    def _count(self, ordered: list[_Kill]) -> bool:
        for kill in ordered:
            kill.left -= 1
        due = [one for one in ordered if one.left == 0]
        for kill in due:
            self._ordered.remove(kill)
            kill.client.abort()
        return bool(due)


def _counts(verb: Verb, reply: bytes) -> bool:
    """Tell whether a reply says that something was done."""
    answer = orjson.loads(reply)
    return not answer.get("error") and (verb.request is not Fetch or bool(answer["messages"]))
