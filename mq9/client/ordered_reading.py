"""Read a mailbox in order without a group: first the stored messages, then new ones."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from mq9 import address as addresses
from mq9.client.consumer.consumer import FIRST_PAUSE_S, LONGEST_PAUSE_S
from mq9.client.groups import GroupMethods
from mq9.clock import sleep
from mq9.errors import (
    Forbidden,
    InvalidRequest,
    MailboxNotFound,
    Mq9Error,
    NotConnected,
    Unauthorized,
    Unreachable,
)
from mq9.models import PRIORITIES, Deliver, FetchResult, Message, Priority, StoredMessage
from mq9.protocol.older_priorities import rank

M = TypeVar("M", bound=StoredMessage)

_logger = logging.getLogger("mq9.mailbox")

# Errors that end the reading. After any other error, a later FETCH may succeed.
FINAL_ERRORS = (Forbidden, InvalidRequest, MailboxNotFound, Unauthorized)

_PAGE = 1_000  # messages, the maximum of one reply
_NORMAL_RANK = PRIORITIES.index(Priority.NORMAL)
_LOW_RANK = len(PRIORITIES)


def in_order(messages: Iterable[M]) -> list[M]:
    """Return messages most urgent first, low ones last, and by id within a rank."""
    return sorted(messages, key=lambda one: (rank(one.priority, one.headers), one.msg_id))


@dataclass(slots=True)
class _LongRound:
    """A round with more messages than one reply holds. It is read one rank after another."""

    start: int
    last: int
    rank: int
    position: int
    first_low: int | None = None


class OrderedReading:
    """Reads all messages of a mailbox, each once, in rounds, without leasing them.

    A round has the messages that are stored when it starts and were in no earlier round. The most
    urgent come first. Messages that arrive during a round belong to the next one. Messages that
    are deleted or expire before they are read are skipped.

    RobustMQ does not report ``more`` and does not read single priorities. There a round has only
    its 1 000 most urgent messages.
    """

    def __init__(self, client: GroupMethods, mail_address: str, from_id: int = 0) -> None:
        self._client = client
        self._address = addresses.parse(mail_address)
        self._next_id = from_id  # the first message of the next round
        self._long: _LongRound | None = None
        self._pause = FIRST_PAUSE_S

    @property
    def is_within_round(self) -> bool:
        """Whether the round has more messages. The latest page may have been empty."""
        return self._long is not None

    async def read(self, max_wait_ms: int) -> list[Message]:
        """Return the next messages, possibly none."""
        if self._long is not None:
            return await self._read_on(self._long)
        page = await self._fetch(self._next_id, max_wait_ms=max_wait_ms)
        if page.more:
            newest = await self._client.fetch(
                self._address, deliver=Deliver.LATEST, num_msgs=1, max_wait_ms=0
            )
            last = max(message.msg_id for message in (*page, *newest))
            self._long = _LongRound(self._next_id, last, rank=0, position=self._next_id)
            return await self._read_on(self._long)
        if page:
            self._next_id = max(message.msg_id for message in page) + 1
        return in_order(page)

    async def next_page(self) -> list[Message]:
        """Return the next messages, at least one. Wait without a limit.

        While no broker answers, it tries again.
        """
        while True:
            try:
                page = await self.read(self._client.clock.longest_poll_ms)
            except FINAL_ERRORS:
                raise
            except Mq9Error as error:
                if isinstance(error, NotConnected) and not isinstance(error, Unreachable):
                    raise
                _logger.warning(
                    "could not read %s, trying again in %g s: %s", self._address, self._pause, error
                )
                await sleep(self._client.clock, self._pause)
                self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
                continue
            self._pause = FIRST_PAUSE_S
            if page:
                return page

    async def _read_on(self, long: _LongRound) -> list[Message]:
        """Return more messages of one rank of a long round. After the last, start the next rank."""
        priority = PRIORITIES[min(long.rank, _NORMAL_RANK)]
        page = await self._fetch(long.position, priority=priority)
        ranked = [
            (rank(message.priority, message.headers), message)
            for message in page
            if message.msg_id <= long.last
        ]
        if long.first_low is None:
            long.first_low = next((one.msg_id for at, one in ranked if at == _LOW_RANK), None)
        found = [message for at, message in ranked if at == long.rank]
        if page.more and page[-1].msg_id < long.last:
            long.position = page[-1].msg_id + 1
        elif long.rank < _NORMAL_RANK:
            long.rank, long.position = long.rank + 1, long.start
        elif long.rank == _NORMAL_RANK and long.first_low is not None:
            long.rank, long.position = _LOW_RANK, long.first_low
        else:
            self._next_id, self._long = long.last + 1, None
        return found

    async def _fetch(
        self, from_id: int, *, priority: Priority | None = None, max_wait_ms: int = 0
    ) -> FetchResult:
        page = await self._client.fetch(
            self._address,
            deliver=Deliver.FROM_ID,
            from_id=from_id,
            priority=priority,
            num_msgs=_PAGE,
            max_wait_ms=max_wait_ms,
        )
        if page and min(message.msg_id for message in page) < from_id:
            raise MailboxNotFound(f"mailbox not found: {self._address} was removed and made anew")
        return page
