"""One run of a thread at a time, among all workers of an agent.

A turn is a lease: the mailboxes ``<agent's mailbox>.turns.0`` and so on hold a message each, which
is leased in a group that follows from the thread. So a turn waits, is renewed, is lost with its
process, and is known to be lost, as the lease of any message is. There are fewer groups than
threads: now and then a thread waits for another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

from mq9 import InvalidRequest, Message, Mq9Client, Mq9Error, NotConnected, Unreachable
from mq9.client.consumer.processing import without_slot
from mq9.clock import sleep
from mq9.errors import MailboxNotFound
from mq9.models import FetchResult
from mq9.protocol.robustmq import goes_by_offset

logger = logging.getLogger("mq9.worker")

_MAILBOXES = 8
_GROUPS = 512  # in each; a broker allows 1 000
_LONGEST_WAIT_MS = 60_000


def place_of_turn(mail_address: str, thread_id: str) -> tuple[str, str]:
    """Return the mailbox and the group in which the turn of a thread is leased.

    Args:
        mail_address: The agent's mailbox.
        thread_id: The thread.
    """
    number = int.from_bytes(hashlib.sha256(thread_id.encode()).digest()[:4])
    return (
        f"{mail_address}.turns.{number % _MAILBOXES}",
        f"turn.{number // _MAILBOXES % _GROUPS}",
    )


class Turns:
    """Gives runs of a thread their turn, one after the other.

    Args:
        client: The connection.
        agent: The agent whose workers share the turns.
        mail_address: The agent's mailbox, by whose name those of the turns are called.
        lease_ms: Milliseconds after which a turn is over whose process has died.
    """

    def __init__(self, client: Mq9Client, *, agent: str, mail_address: str, lease_ms: int) -> None:
        self._client = client
        self._agent = agent
        self._address = mail_address
        self._lease_ms = lease_ms
        self._prepared: set[str] = set()
        self._queues: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def check(self) -> None:
        """See, before there is anything to run, whether turns can be taken.

        Raises:
            InvalidRequest: The broker has no leases.
            Mq9Error: The broker refuses, or cannot be reached.
        """
        address = f"{self._address}.turns.0"
        await self._prepare(address)
        for turn in await self._fetch(address, "check", max_wait_ms=0):
            await self._release(turn)

    @contextlib.asynccontextmanager
    async def take(self, thread_id: str) -> AsyncIterator[asyncio.Future[None]]:
        """Wait for the turn of a thread, and have it while inside.

        In this process who comes first has it first. A message takes no slot of its consumer while
        somebody else has the turn.

        Yields:
            A future that is done when the turn is lost, since it could not be renewed in time.

        Raises:
            Mq9Error: The broker refuses, or cannot be reached.
        """
        place = place_of_turn(self._address, thread_id)
        queue = self._queues.setdefault(place, asyncio.Lock())
        with without_slot():
            await queue.acquire()
        try:
            turn = await self._lease(*place)
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            renewal = asyncio.create_task(self._renew(turn, lost))
            try:
                yield lost
            finally:
                renewal.cancel()
                await self._release(turn)
        finally:
            queue.release()

    async def _lease(self, address: str, group_name: str) -> Message:
        await self._prepare(address)
        fetched = await self._fetch(address, group_name, max_wait_ms=0)
        if not fetched:
            with without_slot():
                while not fetched:
                    await self._prepare(address)
                    fetched = await self._fetch(address, group_name, max_wait_ms=_LONGEST_WAIT_MS)
        return fetched[0]

    async def _fetch(self, address: str, group_name: str, *, max_wait_ms: int) -> FetchResult:
        """Lease a turn that is free; an empty result where there is none, or its mailbox is not."""
        try:
            fetched = await self._client.fetch(
                address,
                group_name=group_name,
                num_msgs=1,
                max_wait_ms=max_wait_ms,
                lease_ms=self._lease_ms,
                redeliver_own=False,
                consumer=f"{self._agent}/{self._client.new_id()}",
            )
        except MailboxNotFound:
            self._prepared.discard(address)
            return FetchResult()
        if goes_by_offset(fetched):
            raise InvalidRequest(
                "server: this broker has no leases, so that nothing would keep two runs of a "
                "thread apart"
            )
        return fetched

    async def _prepare(self, address: str) -> None:
        if address in self._prepared:
            return
        await self._client.mailbox_create(name=address, renew=True)
        if not await self._client.query(address, limit=1):
            # Of several workers that find it empty, all send the same message.
            await self._client.send(address, "turn", id="turn", sender=self._agent)
        self._prepared.add(address)

    async def _renew(self, turn: Message, lost: asyncio.Future[None]) -> None:
        """Renew a turn, three times a lease, until it is lost."""
        clock, lease_s = self._client.clock, self._lease_ms / 1000
        held_until_ms = clock.monotonic_ms() + self._lease_ms
        while not lost.done():
            await sleep(clock, lease_s / 3)
            asked_ms = clock.monotonic_ms()
            try:
                renewed = await self._client.extend(turn, lease=lease_s)
            except Mq9Error as error:
                logger.warning("a turn could not be renewed: %s", error)
                if clock.monotonic_ms() >= held_until_ms:
                    lost.set_result(None)
                continue
            if renewed.lost:
                lost.set_result(None)
            held_until_ms = asked_ms + self._lease_ms

    async def _release(self, turn: Message) -> None:
        """Give a turn back; if that fails, its lease ends by itself."""
        try:
            await self._client.nack(turn)
        except Mq9Error as error:
            was_closed = isinstance(error, NotConnected) and not isinstance(error, Unreachable)
            logger.log(
                logging.DEBUG if was_closed else logging.WARNING,
                "a turn was not given back, its lease runs out instead: %s",
                error,
            )
