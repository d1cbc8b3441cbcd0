"""One page of the agents that are found, with what a reply says of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from mq9.engine import agents, status
from mq9.engine.agents import Registration
from mq9.engine.commands import Actor
from mq9.models import Match
from mq9.protocol.outcomes import Discovered


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page, and who asks.

    Attributes:
        number: Counted from 1.
        limit: Agents on a page.
        actor: Is told the backlog of mailboxes that it may read.
    """

    number: int
    limit: int
    actor: Actor

    @property
    def first(self) -> int:
        """How many agents are on the pages before."""
        return (self.number - 1) * self.limit


def everybody(connection: sqlite3.Connection, request: PageRequest, now: int) -> Discovered:
    """Return a page of all agents that are alive, by name."""
    found = agents.by_key(connection, now, limit=request.limit + 1, offset=request.first)
    return _page(connection, [(one, 0.0) for one in found], request, "all", 0.0, now)


def of_ranking(
    connection: sqlite3.Connection,
    ranking: Iterable[tuple[int, float]],
    request: PageRequest,
    mode: str,
    weak_below: float,
    now: int,
) -> Discovered:
    """Return a page of those of a ranking that are alive, and read no more of it than that takes.

    Args:
        connection: The database.
        ranking: Id and score of each agent, best first.
        request: Which page.
        mode: What ranked them.
        weak_below: The score below which a match is weak.
        now: The instant at which they are alive.
    """
    found: list[tuple[Registration, float]] = []
    for id_, score in ranking:
        agent = agents.look(connection, id_, now)
        if agent is not None:
            found.append((agent, score))
            if len(found) > request.first + request.limit:
                break
    return _page(connection, found[request.first :], request, mode, weak_below, now)


def _page(
    connection: sqlite3.Connection,
    found: list[tuple[Registration, float]],
    request: PageRequest,
    mode: str,
    weak_below: float,
    now: int,
) -> Discovered:
    """Show agents; one more than the page has room for says that another follows."""
    return Discovered(
        agents=tuple(
            (
                agent.registered,
                Match(
                    name=agent.key,
                    mailbox=agent.mailbox,
                    score=round(score, 6),
                    last_seen=agent.seen_ms // 1000,
                    status=None if agent.status is None else orjson.loads(agent.status),
                    mode=mode,
                    backlog=status.backlog(connection, agent.mailbox, request.actor, now),
                    weak=score < weak_below,
                ),
            )
            for agent, score in found[: request.limit]
        ),
        mode=mode,
        has_more=len(found) > request.limit,
    )
