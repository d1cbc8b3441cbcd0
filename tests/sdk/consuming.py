"""What tests of the consumer share: a handler, and ways to look at what became of messages."""

import asyncio
import contextlib


class Handler:
    """Notes what it was given; waits while it is held, raises what it is told to."""

    def __init__(self):
        self.texts = []
        self.counts = []
        self.most_at_once = 0
        self.free = asyncio.Event()
        self.free.set()
        self.error = None
        self._at_once = 0

    async def __call__(self, message):
        self.texts.append(message.text)
        self.counts.append(message.delivery_count)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self.free.wait()
        finally:
            self._at_once -= 1
        if self.error is not None:
            raise self.error


@contextlib.asynccontextmanager
async def consuming(client, handler, **options):
    options = {"group_name": "g", "deliver": "earliest", **options}
    async with await client.consume("inbox", handler, **options) as consumer:
        await client.clock.advance(0)
        yield consumer


async def held(client, group_name="g"):
    """Msg ids that are leased now."""
    status = await client.mailbox_status("inbox", group_name=group_name)
    return sum(one.count for one in status.group.leased)


async def acked(client, group_name="g"):
    return (await client.mailbox_status("inbox", group_name=group_name)).group.acked


async def count_moved(client, group_name="g"):
    return (await client.mailbox_status("inbox", group_name=group_name)).group.moved
