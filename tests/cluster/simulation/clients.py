"""Clients, which ask any gateway, give up, ask another one, and remember what they were told."""

import asyncio
from dataclasses import dataclass

from mq9.engine.commands import ANYBODY, Call
from mq9.errors import Mq9Error, OutcomeUnknown
from mq9.models import Deliver, Priority
from mq9.protocol import requests

from .history import GROUPS

STEADY = ("a", "b")
TIMED = "t"
_UNKNOWN = OutcomeUnknown("nobody has answered")


@dataclass(frozen=True)
class Receipt:
    """What a client knows of a FETCH reply."""

    address: str
    group: str
    batch: str
    msg_ids: tuple


class Client:
    """A client.

    Args:
        world: The cluster.
        name: Of the client: what its consumer is called, and its connection.
    """

    def __init__(self, world, name):
        self._world = world
        self._dice = world.dice
        self._loop = world.loop
        self.name = name
        self._receipts = []
        self._numbers = 0

    def _one(self, *values):
        return self._dice.choice(values)

    async def work(self):
        """Do one thing after the other until the end."""
        kinds = {
            self.send: 6,
            self.fetch: 6,
            self.confirm: 6,
            self.look: 4,
            self.burst: 2,
            self.flood: 1,
        }
        while self._world.is_working:
            [kind] = self._dice.choices(list(kinds), list(kinds.values()))
            await kind()
            await asyncio.sleep(self._one(0, 0.001, 0.01, 0.3))

    def _call(self, request, address, payload=b""):
        return Call(request, address, ANYBODY, "", payload, self._world.token())

    async def _ask(self, process, call, *, wait_s=None, patience_s=None):
        """Ask a gateway; what it answers, as far as that comes."""
        self._world.step()
        if not process.is_serving:
            await asyncio.sleep(0.05)
            return _UNKNOWN
        reply = self._loop.create_future()
        if patience_s is None:
            patience_s = self._one(0.002, 0.1, 2, 10, 40)
        task = process.spawn(self._answer(process, call, wait_s, reply))
        asked = await self._reply(reply, patience_s)
        if asked is None:
            if self._one(True, False):
                task.cancel()
            return _UNKNOWN
        return self._world.history.tell(asked)

    async def _reply(self, reply, patience_s):
        timer = self._loop.call_later(patience_s, _resolve, reply, None)
        try:
            return await reply
        finally:
            timer.cancel()

    async def _answer(self, process, call, wait_s, reply):
        if wait_s is None:
            asked = await self._carry_out(process, call)
        else:
            asked = await self._wait(process, call, wait_s)
        self._world.servers.later(_resolve, reply, asked)

    async def _carry_out(self, process, call):
        history = self._world.history
        asked = history.begin(call, process.name, self.name)
        try:
            if isinstance(call.request, requests.Query):
                answer = await process.backend.read(call)
            elif not call.token:
                answer = await process.send(call, self.name)
            else:
                process.batches.close(self.name)  # as a service does
                answer = await process.backend.run(call, self.name)
                if not isinstance(call.request, requests.Fetch):
                    process.waiters.notify(call.address)  # as a service does
        except Mq9Error as error:
            answer = error
        except asyncio.CancelledError:
            history.cancel(asked)
            raise
        history.end(asked, answer)
        return asked

    async def _wait(self, process, call, wait_s):
        """Do as a service does for a FETCH that waits for mail."""
        clock = process.clock
        deadline_ms = clock.monotonic_ms() + wait_s * 1000
        with process.waiters.joined(call.address, call.request.group_name) as waiter:
            while True:
                waiter.begin()
                asked = await self._carry_out(process, call)
                left_ms = deadline_ms - clock.monotonic_ms()
                if isinstance(asked.answer, Mq9Error) or asked.answer.messages or left_ms <= 0:
                    return asked
                change_ms = asked.answer.next_change_ms
                if change_ms is not None:
                    change_ms -= process.steady.now_ms()
                await waiter.wait(clock, left_ms, change_ms)
                call = self._call(call.request, call.address)

    async def send(self):
        """Send a message, perhaps under an id, and then until that is done."""
        self._numbers += 1
        request_id = self._one(None, f"{self.name}/{self._numbers}")
        address = self._one(*STEADY, TIMED)
        options = {}
        if address == TIMED:
            delay = self._one(None, None, 1, 5)
            ttl = self._one(None, (delay or 0) + self._one(1, 10))
            options = {"delay": delay, "ttl": ttl, "key": self._one(None, "k")}
        request = requests.Send(id=request_id, priority=self._one(*Priority), **options)
        payload = f"{self.name}/{self._numbers}".encode()
        for _ in range(5):
            answer = await self._ask(self._world.process(), self._call(request, address, payload))
            if answer is not _UNKNOWN or request_id is None:
                break

    def _fetch(self, **options):
        self._numbers += 1
        return requests.Fetch(
            group_name=self._one(*GROUPS),
            consumer=self.name,
            deliver=Deliver.EARLIEST,
            request_id=self._one(None, f"f{self._numbers}"),
            num_msgs=self._one(1, 2, 10),
            lease_ms=self._one(1_000, 5_000, 60_000),
            redeliver_own=False,
        )

    async def fetch(self):
        """Fetch, perhaps waiting for mail, and under an id until there is an answer."""
        address = self._one(*STEADY, TIMED)
        request = self._fetch()
        wait_s = self._one(None, 1, 20)
        for _ in range(3):
            call = self._call(request, address)
            answer = await self._ask(self._world.process(), call, wait_s=wait_s)
            if answer is not _UNKNOWN or request.request_id is None:
                break
        self._remember(request, address, answer)

    def _remember(self, request, address, answer):
        if not isinstance(answer, Mq9Error) and answer.batch is not None:
            msg_ids = tuple(message.msg_id for message in answer)
            receipt = Receipt(address, request.group_name, answer.batch, msg_ids)
            self._receipts = [*self._receipts[-5:], receipt]

    async def confirm(self):
        """Ack, give back or extend what was fetched."""
        call = self._confirmation()
        if call is None:
            return
        for _ in range(3):
            answer = await self._ask(self._world.process(), call)
            if answer is not _UNKNOWN:
                break
            call = self._call(call.request, call.address)

    def _confirmation(self):
        if not self._receipts:
            return None
        receipt = self._one(*self._receipts)
        options = {"group_name": receipt.group, "consumer": self.name}
        kind = self._one(*[requests.Ack] * 4, requests.Nack, requests.Extend)
        if kind is requests.Extend:
            msg_ids = receipt.msg_ids
            options.update(msg_ids=msg_ids, lease_ms=5_000)
        else:
            msg_ids = [self._one(*receipt.msg_ids)]
            options.update(msg_id=msg_ids[0], batch=receipt.batch)
        if kind is not requests.Ack:  # a lease may be extended to an earlier instant
            for msg_id in msg_ids:
                self._world.history.give_back((receipt.address, receipt.group, msg_id), self.name)
        return self._call(kind(**options), receipt.address)

    async def look(self):
        """See what there is."""
        query = requests.Query(limit=1_000)
        await self._ask(self._world.process(), self._call(query, self._one(*STEADY)))

    async def burst(self):
        """Begin several things at once, at one gateway."""
        process = self._world.process()
        address = self._one(*STEADY)
        calls = []
        for _ in range(self._one(2, 3, 8)):
            self._numbers += 1
            payload = f"{self.name}/{self._numbers}".encode()
            send = self._one(self._call, _plain)(requests.Send(), address, payload)
            calls.append(self._one(send, self._call(self._fetch(), address), self._confirmation()))
        asking = [(call, self._ask(process, call)) for call in calls if call is not None]
        answers = await asyncio.gather(*(one for _, one in asking))
        for (call, _), answer in zip(asking, answers, strict=True):
            if isinstance(call.request, requests.Fetch):
                self._remember(call.request, call.address, answer)

    async def flood(self):
        """Send more at once than one record holds."""
        process = self._world.process()
        asking = []
        for _ in range(self._one(10, 40)):
            self._numbers += 1
            payload = f"{self.name}/{self._numbers}".encode().ljust(self._one(1, 99), b" ")
            asking.append(self._ask(process, _plain(requests.Send(), TIMED, payload)))
        await asyncio.gather(*asking)

    async def surely(self, process, request, address, payload=b"", wait_s=None):
        """Ask where everything goes well, and return what is answered soon.

        A gateway whose clock is behind those of the others is refused once.
        """
        for _ in range(2):
            call = self._call(request, address, payload)
            answer = await self._ask(process, call, wait_s=wait_s, patience_s=5)
            if not isinstance(answer, Mq9Error) or answer.code != "unavailable":
                break
        if isinstance(answer, Mq9Error):
            raise answer
        return answer

    async def drain(self, address, group):
        """Fetch and ack everything that nobody has acked."""
        while True:
            request = requests.Fetch(
                group_name=group, consumer=self.name, deliver=Deliver.EARLIEST, num_msgs=100
            )
            fetched = await self.surely(self._world.process(), request, address)
            for message in fetched:
                ack = requests.Ack(
                    group_name=group,
                    consumer=self.name,
                    msg_id=message.msg_id,
                    batch=fetched.batch,
                    individual=True,
                )
                await self.surely(self._world.process(), ack, address)
            if not fetched:
                return


def _plain(request, address, payload):
    """Return a SEND that goes into a batch."""
    return Call(request, address, payload=payload)


def _resolve(reply, asked):
    if not reply.done():
        reply.set_result(asked)
