"""The leases of authenticated agents, which come back when an agent is removed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mq9.engine.commands import Call, consumer_of
from mq9.protocol.outcomes import Fetched
from mq9.protocol.requests import Fetch, Nack

_MOST = 10_000  # messages of an agent, the latest ones
REASON = "its agent was removed from the users"


class _Batch(NamedTuple):
    address: str
    group_name: str
    consumer: str
    token: str
    msg_ids: tuple[int, ...]

    def nacks(self) -> Iterator[Call[Nack]]:
        for msg_id in self.msg_ids:
            nack = Nack(
                group_name=self.group_name,
                msg_id=msg_id,
                batch=self.token,
                consumer=self.consumer,
                reason=REASON,
            )
            yield Call(nack, self.address)


class _Latest:
    """The latest batches of one agent."""

    def __init__(self) -> None:
        self.batches: deque[_Batch] = deque()
        self._messages = 0

    def add(self, batch: _Batch) -> None:
        self.batches.append(batch)
        self._messages += len(batch.msg_ids)
        while self._messages > _MOST and len(self.batches) > 1:
            self._messages -= len(self.batches.popleft().msg_ids)


class GrantedLeases:
    """The latest leases of each agent since the start. Some of them may have ended."""

    def __init__(self) -> None:
        self._by_agent: dict[str, _Latest] = {}

    def note(self, agent: str, call: Call[Fetch], fetched: Fetched) -> None:
        """Note the leases of a FETCH."""
        if fetched.batch is None or call.request.group_name is None:
            return
        ids = tuple(message.msg_id for message in fetched.messages)
        self._by_agent.setdefault(agent, _Latest()).add(
            _Batch(call.address, call.request.group_name, consumer_of(call), fetched.batch, ids)
        )

    def take(self, stays: Callable[[str], bool]) -> list[Call[Nack]]:
        """Return what gives back the leases of agents that do not stay, and forget these."""
        gone = [self._by_agent.pop(agent) for agent in list(self._by_agent) if not stays(agent)]
        return [nack for latest in gone for batch in latest.batches for nack in batch.nacks()]
