"""A consumer tells a function of each message that it is about to move to the dead letters."""

import pytest

from mq9 import Reject
from tests.sdk.consuming import acked, consuming

pytestmark = pytest.mark.usefixtures("dead")

LAST = {"dead_letter": "dead", "max_deliveries": 1}


class Noted:
    """Notes what it is told, and raises `errors` first; `stored` are the dead letters then."""

    def __init__(self, client, *errors):
        self._client = client
        self._errors = [*errors]
        self.told = []
        self.stored = []

    async def __call__(self, message, error):
        self.told.append((message.text, error))
        self.stored.append((await self._client.mailbox_status("dead")).stored)
        if self._errors:
            raise self._errors.pop()


@pytest.mark.parametrize("error", [ValueError("no"), Reject("no")])
async def test_it_is_told_before_the_message_is_moved(broker, client, handler, error):
    handler.error, noted = error, Noted(client)
    await client.send("inbox", "x")
    async with consuming(client, handler, before_dead_letter=noted, **LAST):
        await broker.clock.advance(1)
    assert (noted.told, noted.stored) == ([("x", error)], [0])
    assert (await client.mailbox_status("dead")).stored == 1


async def test_it_is_told_of_a_message_whose_workers_died(broker, client, handler):
    noted = Noted(client)
    await client.send("inbox", "x")
    for _ in range(9):
        await client.fetch("inbox", group_name="g", consumer="dying", lease_ms=1_000)
        await broker.clock.advance(1)
    async with consuming(client, handler, before_dead_letter=noted, **LAST):
        await broker.clock.advance(1)
    assert (noted.told, noted.stored) == ([("x", None)], [0])
    assert handler.counts == []


async def test_while_it_raises_the_message_stays(broker, client, handler):
    handler.error, noted = ValueError("no"), Noted(client, KeyError("a"), KeyError("b"))
    reported = []

    async def report(_message, error):
        reported.append(type(error))

    await client.send("inbox", "x")
    options = {**LAST, "max_retry_delay": 10, "error_handler": report}
    async with consuming(client, handler, before_dead_letter=noted, **options):
        await broker.clock.advance(5)
        assert await acked(client) == 0
        await broker.clock.advance(25)
    assert noted.stored == [0, 0, 0]
    assert reported == [ValueError, KeyError, KeyError]
    assert (await client.mailbox_status("dead")).stored == 1
