"""Clients that send, and workers that ack, whatever becomes of gateways and servers meanwhile."""

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field

from waiting import until

from mq9 import Mq9Error
from mq9.errors import NotConnected

LEASE_MS = 20_000


@dataclass
class Ledger:
    """What was answered."""

    sent: dict = field(default_factory=dict)  # the body by its msg_id
    acked: set = field(default_factory=set)
    leased: dict = field(default_factory=dict)  # until when, by msg_id, and by whom
    twice: list = field(default_factory=list)  # handed out while somebody else had them
    longest_s: float = 0.0  # that a send took, with all its tries
    looks: int = 0  # at the mailbox
    sending: bool = True

    @property
    def entries(self):
        return len(self.sent) + len(self.acked)


async def tried(call):
    """Call until it is answered; nothing is done twice that has an id."""
    while True:
        try:
            return await call()
        except NotConnected:
            raise
        except Mq9Error:
            await asyncio.sleep(0.05)


async def send(client, name, ledger, pause_s):
    dice = random.Random(name)
    for number in itertools.count():
        if not ledger.sending:
            return
        body = f"{name}.{number} ".ljust(dice.choice([20, 2_000]), "x")
        begun = time.monotonic()
        msg_id = await tried(
            lambda body=body, number=number: client.send("inbox", body, id=f"{name}.{number}")
        )
        ledger.longest_s = max(ledger.longest_s, time.monotonic() - begun)
        assert ledger.sent.setdefault(msg_id, body) == body, f"the id {msg_id} was used again"
        if pause_s:
            await asyncio.sleep(pause_s)


async def work(client, name, ledger):
    """Fetch, hold for a moment, ack."""
    while True:
        asked = time.monotonic()
        fetched = await tried(
            lambda: client.fetch(
                "inbox",
                group_name="workers",
                consumer=name,
                deliver="earliest",
                num_msgs=10,
                max_wait_ms=200,
                lease_ms=LEASE_MS,
            )
        )
        answered = time.monotonic()
        for message in fetched:
            assert message.msg_id not in ledger.acked, f"acked, and given again: {message.msg_id}"
            until_s, holder = ledger.leased.get(message.msg_id, (0.0, name))
            # A lease begins after it was asked for, so that until then it is certainly held.
            if holder != name and answered < until_s:
                ledger.twice.append((message.msg_id, holder, name))
            ledger.leased[message.msg_id] = (asked + LEASE_MS / 1_000, name)
        if fetched:
            last = fetched[-1].msg_id
            acked = await tried(
                lambda last=last: client.ack("inbox", "workers", last, consumer=name)
            )
            ledger.acked |= set(acked)


async def look(client, ledger, pause_s):
    """See what was answered before."""
    while True:
        sent = len(ledger.sent)
        status = await tried(lambda: client.mailbox_status("inbox"))
        assert status.stored >= sent, f"{sent} were sent, and it says {status.stored}"
        ledger.looks += 1
        await asyncio.sleep(max(0.02, pause_s))  # it is not what the cluster is to be busy with


async def everything(client, group):
    messages = []
    while fetched := await client.fetch(
        "inbox", group_name=group, deliver="earliest", num_msgs=1_000, max_wait_ms=0
    ):
        messages += fetched
        await client.ack("inbox", group, fetched[-1].msg_id)
    return messages


class Traffic:
    """Senders, workers, and who looks by each server, each with a client of its own.

    Args:
        cluster: To which they are connected, until it is no longer there.
        senders: How many send.
        workers: How many fetch and ack.
        pause_s: Seconds between two messages of a sender.
    """

    def __init__(self, cluster, senders=3, workers=3, pause_s=0.0):
        self.ledger = Ledger()
        self._cluster = cluster
        self._counts = senders, workers
        self._pause_s = pause_s
        self._senders = []
        self._others = []

    async def _connect(self, number=0, most=None):
        """A client that prefers the server of a number, and knows as many as it may."""
        urls = self._cluster.servers.urls
        place = number % len(urls)
        url = ",".join([*urls[place:], *urls[:place]][:most])
        return await self._cluster.client(
            url, request_timeout=2, reconnect_attempts=1_000, reconnect_delay=0.1
        )

    async def begin(self):
        first = await self._connect()
        await first.mailbox_create(name="inbox")
        senders, workers = self._counts
        for number in range(senders):
            task = send(await self._connect(number), f"sender{number}", self.ledger, self._pause_s)
            self._senders.append(asyncio.create_task(task))
        for number in range(workers):
            task = work(await self._connect(number), f"worker{number}", self.ledger)
            self._others.append(asyncio.create_task(task))
        for number in range(len(self._cluster.servers.urls)):
            task = look(await self._connect(number, 1), self.ledger, self._pause_s)
            self._others.append(asyncio.create_task(task))

    async def more(self, count, seconds=60):
        """Return when so much more was answered."""
        enough = self.ledger.entries + count
        await until(lambda: self.ledger.entries >= enough or self._is_over(), seconds)
        self._raise()

    def _is_over(self):
        return any(task.done() for task in self._senders + self._others)

    def _raise(self):
        for task in self._senders + self._others:
            if task.done():
                task.result()

    async def end(self):
        """Send no more, wait until all is acked, and compare with what the mailbox holds."""
        client = await self._connect()
        self.ledger.sending = False
        await asyncio.gather(*self._senders)
        self._senders.clear()
        ledger = self.ledger
        await until(lambda: ledger.acked >= ledger.sent.keys() or self._is_over(), seconds=90)
        self._raise()
        for task in self._others:
            task.cancel()
        await asyncio.gather(*self._others, return_exceptions=True)
        stored = await everything(client, "check")
        assert {message.msg_id: message.text for message in stored} == ledger.sent
        assert len({message.text for message in stored}) == len(stored), "stored twice"
        assert ledger.twice == []
        status = await client.mailbox_status("inbox", group_name="workers")
        assert (status.group.pending.total, status.group.acked) == (0, len(stored))

    def cancel(self):
        for task in self._senders + self._others:
            task.cancel()
