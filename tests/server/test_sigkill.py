"""A server that is killed, again and again, under clients that go on by themselves."""

import asyncio
import itertools
import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from serving import Serving
from waiting import until

from mq9 import Mq9Client
from tests.cluster.traffic import everything

pytestmark = [pytest.mark.programs, pytest.mark.soak]

KILLS = 10
SENDERS = 3
WORKERS = 3
CONSUMERS = 2


@dataclass
class Ledger:
    """What the server has answered."""

    sent: dict = field(default_factory=dict)  # the body by its id
    acked: set = field(default_factory=set)
    handled: Counter = field(default_factory=Counter)
    sending: bool = True

    @property
    def entries(self):
        return len(self.sent) + len(self.acked) + len(self.handled)


async def send(client, name, ledger):
    dice = random.Random(name)
    for number in itertools.count():
        if not ledger.sending:
            return
        body = f"{name}.{number} ".ljust(dice.choice([20, 2_000]), "x")
        msg_id = await client.send("inbox", body)
        assert ledger.sent.setdefault(msg_id, body) == body, f"the id {msg_id} was used again"


async def work(client, ledger):
    while True:
        fetched = await client.fetch(
            "inbox", group_name="workers", deliver="earliest", num_msgs=10, max_wait_ms=200
        )
        again = {message.msg_id for message in fetched} & ledger.acked
        assert not again, f"acked, and delivered again: {again}"
        if fetched:
            acked = await client.ack("inbox", "workers", fetched[-1].msg_id)
            ledger.acked |= set(acked)


@pytest.mark.timeout(600)
async def test_whatever_was_acknowledged_survives_kills_and_clients_go_on(tmp_path, scale):
    dice = random.Random(7)
    ledger = Ledger()
    limits = ("--max-messages", "1000000")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            Serving(tmp_path, "--data", str(tmp_path / "mq9.db"), *limits)
        )

        async def connect():
            client = Mq9Client(server.url, reconnect_attempts=1_000, reconnect_delay=0.1)
            return await stack.enter_async_context(client)

        first = await connect()
        await first.mailbox_create(name="inbox")

        async def handle(message):
            ledger.handled[message.msg_id] += 1

        for _ in range(CONSUMERS):
            consumer = await (await connect()).consume(
                "inbox", handle, group_name="consumers", deliver="earliest", max_wait_ms=200
            )
            stack.push_async_callback(consumer.stop)
        senders = [
            asyncio.create_task(send(await connect(), f"sender{n}", ledger)) for n in range(SENDERS)
        ]
        workers = [asyncio.create_task(work(await connect(), ledger)) for _ in range(WORKERS)]

        for _ in range(KILLS * scale):
            enough = ledger.entries + dice.randint(1, 400)
            await until(
                lambda enough=enough: (
                    ledger.entries >= enough or any(task.done() for task in senders + workers)
                )
            )
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        ledger.sending = False
        await asyncio.gather(*senders)
        # They are the clients they were; nobody had to make or to connect them again.
        await until(
            lambda: (
                ledger.acked >= ledger.sent.keys() <= ledger.handled.keys()
                or any(task.done() for task in workers)
            ),
            seconds=90,
        )
        for task in workers:
            task.cancel()
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome

        stored = await everything(first, "check")
        assert {message.msg_id: message.text for message in stored} == ledger.sent
        assert len({message.text for message in stored}) == len(stored), "stored twice"
        assert await first.fetch("inbox", group_name="workers", max_wait_ms=0) == []
        status = await first.mailbox_status("inbox", group_name="workers")
        assert (status.group.pending.total, status.group.acked) == (0, len(stored))
    assert len(ledger.sent) > KILLS
