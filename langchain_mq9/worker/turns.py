"""One run of a thread at a time, among all workers of an agent.

A turn is the lease on the only message of a mailbox, ``<agent's mailbox>.turns.<thread>``. A turn
can wait, be renewed, and end with its process, like any lease. Its holder removes the mailbox
afterwards. A mailbox that a dead process has left expires by its TTL.

A process that was paused may believe in a turn that has ended. So each turn has a number: the
broker's time at which it began, in milliseconds. A later turn of a thread has a higher number,
whether or not its mailbox was removed in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

from langchain_mq9.worker.records import WorkerAgent
from mq9 import (
    InvalidRequest,
    Message,
    Mq9Client,
    Mq9Error,
    NotConnected,
    Retry,
    Unreachable,
    without_slot,
)
from mq9.clock import sleep
from mq9.errors import MailboxExists, MailboxNotFound
from mq9.models import FetchResult
from mq9.operations.conversations import mailbox_of_turn

logger = logging.getLogger("mq9.worker")

_GROUP = "turn"
_LEASES_KEPT = 3  # lease durations after which an unused mailbox expires


@dataclass(slots=True, eq=False, kw_only=True)
class Turn:
    """The right to run a thread."""

    client: Mq9Client
    message: Message
    thread_id: str
    lease_ms: int
    number: int
    held_until_ms: int  # of `monotonic_ms`
    lost: asyncio.Future[None]

    def check(self) -> None:
        """Raise ``Retry`` if the turn has ended."""
        if self.lost.done() or self.client.clock.monotonic_ms() >= self.held_until_ms:
            raise Retry("the worker was paused or cut off from the broker for longer than a lease")

    async def renew(self) -> None:
        """Renew the lease; ``Retry`` if it has ended. Without a broker, only check the deadline."""
        self.check()
        asked_ms = self.client.clock.monotonic_ms()
        try:
            renewed = await self.client.extend(self.message, lease=self.lease_ms / 1000)
        except MailboxNotFound:
            self._lose()
        except Mq9Error as error:
            logger.warning("a turn could not be renewed: %s", error)
        else:
            if renewed.lost:
                self._lose()
            else:
                self.held_until_ms = max(self.held_until_ms, asked_ms + self.lease_ms)
        self.check()

    async def keep(self) -> None:
        """Renew the lease and its mailbox, three times a lease, until the turn is lost."""
        while True:
            await sleep(self.client.clock, self.lease_ms / 3_000)
            try:
                await self.renew()
                await make_mailbox(
                    self.client, self.message.mail_address, self.lease_ms, renew=True
                )
            except Retry:
                self._lose()
                return
            except Mq9Error as error:
                logger.warning("the mailbox of a turn could not be renewed: %s", error)

    async def release(self) -> None:
        """Give the turn back, and remove its mailbox. If that fails, both expire."""
        try:
            self.check()  # else another one may have the turn
            await self.client.mailbox_drop(self.message.mail_address)
        except (Retry, MailboxNotFound):
            return
        except Mq9Error as error:
            was_closed = isinstance(error, NotConnected) and not isinstance(error, Unreachable)
            logger.log(
                logging.DEBUG if was_closed else logging.WARNING,
                "a turn was not given back, its lease runs out instead: %s",
                error,
            )

    def _lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


class Turns:
    """Gives runs of a thread their turn, one after the other."""

    def __init__(self, agent: WorkerAgent, lease_ms: int) -> None:
        self._client = agent.client
        self._agent = agent
        self._lease_ms = lease_ms
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def check(self) -> None:
        """Check that turns can be taken: ``InvalidRequest`` if the broker has no leases."""
        address = f"{self._agent.mail_address}.turns.check"
        await self._client.mailbox_create(name=address, ttl=60, renew=True)
        with contextlib.suppress(MailboxNotFound):  # removed by another worker, which checks, too
            await self._client.send(address, "turn", sender=self._agent.name)
            await self._fetch(address, max_wait_ms=0)
            await self._client.mailbox_drop(address)
        await self._agent.prepare()

    @contextlib.asynccontextmanager
    async def take(self, thread_id: str) -> AsyncIterator[Turn]:
        """Wait for the turn of a thread, and have it while inside.

        In this process, first come, first served. A message occupies no slot of its consumer while
        somebody else has the turn.
        """
        queue = self._queues.setdefault(thread_id, asyncio.Lock())
        with without_slot():
            await queue.acquire()
        try:
            turn = await self._wait(thread_id)
            keeping = asyncio.create_task(turn.keep())
            try:
                yield turn
            finally:
                keeping.cancel()
                await turn.release()
        finally:
            queue.release()

    async def _wait(self, thread_id: str) -> Turn:
        address = mailbox_of_turn(self._agent.mail_address, thread_id)
        turn = await self._try(thread_id, address, max_wait_ms=0)
        if turn is not None:
            return turn
        with without_slot():
            while turn is None:
                turn = await self._try(thread_id, address, max_wait_ms=self._lease_ms)
            await turn.renew()  # it began at some moment of the wait
        return turn

    async def _try(self, thread_id: str, address: str, *, max_wait_ms: int) -> Turn | None:
        """Take a turn that becomes free in time; only its holder renews the mailbox."""
        begun_ms = self._client.clock.monotonic_ms()
        # A broker does these together. In another order the turn is found later, and no other.
        done = await asyncio.gather(
            make_mailbox(self._client, address, self._lease_ms),
            # Of several workers that find it empty, all send the same message.
            self._client.send(address, "turn", id="turn", sender=self._agent.name),
            self._fetch(address, max_wait_ms=max_wait_ms),
            return_exceptions=True,
        )
        errors = [one for one in done if isinstance(one, BaseException)]
        if any(isinstance(one, MailboxNotFound) for one in errors):
            return None
        if errors:
            raise errors[0]
        fetched = done[2]
        assert isinstance(fetched, FetchResult)  # noqa: S101  # it is no error
        while fetched and _verified_sender(fetched[0]) != self._agent.identity:
            await self._client.ack(fetched[0])  # somebody else's is no turn
            begun_ms = self._client.clock.monotonic_ms()
            fetched = await self._fetch(address, max_wait_ms=0)
        if not fetched:
            return None
        until_s = fetched.lease_until or 0
        if max_wait_ms:
            begun_ms = self._client.clock.monotonic_ms()
        return Turn(
            client=self._client,
            message=fetched[0],
            thread_id=thread_id,
            lease_ms=self._lease_ms,
            number=round(until_s * 1000) - self._lease_ms,
            held_until_ms=begun_ms + self._lease_ms,
            lost=asyncio.get_running_loop().create_future(),
        )

    async def _fetch(self, address: str, *, max_wait_ms: int) -> FetchResult:
        fetched = await self._client.fetch(
            address,
            group_name=_GROUP,
            num_msgs=1,
            max_wait_ms=max_wait_ms,
            lease_ms=self._lease_ms,
            redeliver_own=False,
            consumer=f"{self._agent.name}/{self._client.new_id()}",
        )
        if fetched and fetched.batch is None:
            raise InvalidRequest(
                "server: this broker has no leases, so that nothing would keep two runs of a "
                "thread apart"
            )
        return fetched


def _verified_sender(message: Message) -> str | None:
    return message.sender if message.sender_verified else None


async def make_mailbox(
    client: Mq9Client, address: str, lease_ms: int, *, renew: bool = False
) -> None:
    """Make the mailbox of a turn if it is missing, or renew it."""
    ttl = math.ceil(_LEASES_KEPT * lease_ms / 1000)
    with contextlib.suppress(MailboxExists):
        await client.mailbox_create(name=address, ttl=ttl, renew=renew, send_policy="creator")
