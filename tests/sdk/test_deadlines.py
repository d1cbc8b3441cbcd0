"""Waits that share one timer end as with `asyncio.timeout`."""

import asyncio
import gc
import weakref

import pytest
from direct import client_of

from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.concurrency.deadlines import Deadlines

LONG = 3_600


async def never():
    await asyncio.get_running_loop().create_future()


async def within(deadlines, outer):
    async with outer:
        with deadlines.within(LONG):
            await never()


async def begun(deadlines):
    """Begin a long wait in a task of its own."""

    async def wait():
        with deadlines.within(LONG):
            await never()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


async def test_each_wait_ends_at_its_own_deadline():
    deadlines = Deadlines()
    ended = []

    async def wait(seconds):
        with pytest.raises(TimeoutError), deadlines.within(seconds):
            await never()
        ended.append(seconds)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)  # it is not cancelled any more

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for seconds in (0.06, 0.02, 0.04, 0):
            group.create_task(wait(seconds))
    assert ended == [0, 0.02, 0.04, 0.06]


async def test_what_is_over_in_time_is_left_alone():
    deadlines = Deadlines()
    with deadlines.within(0.01):
        pass
    with pytest.raises(KeyError), deadlines.within(0.01):
        raise KeyError
    await asyncio.sleep(0.02)
    assert asyncio.current_task().cancelling() == 0


async def test_many_waits_one_after_another_make_one_timer(monkeypatch):
    loop = asyncio.get_running_loop()
    made = []
    call_at = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda *args: made.append(1) or call_at(*args))
    deadlines = Deadlines()
    for _ in range(100):
        with deadlines.within(LONG):
            pass
    assert len(made) == 1
    deadlines.end_all()


async def test_a_task_that_is_cancelled_is_cancelled():
    deadlines = Deadlines()
    task = await begun(deadlines)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_is_cancelled_at_its_deadline_too_is_cancelled():
    deadlines = Deadlines()
    task = await begun(deadlines)
    deadlines.end_all()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_outer_timeout_is_told_from_the_inner_one():
    deadlines = Deadlines()
    outer = asyncio.timeout(0.01)
    with pytest.raises(TimeoutError):
        await within(deadlines, outer)
    assert outer.expired()
    async with asyncio.timeout(LONG) as outer:
        with pytest.raises(TimeoutError), deadlines.within(0.01):
            await never()
    assert not outer.expired()


async def test_an_error_at_the_deadline_is_the_error():
    deadlines = Deadlines()

    async def wait():
        with deadlines.within(LONG):
            try:
                await never()
            except asyncio.CancelledError:
                raise KeyError from None

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    deadlines.end_all()
    with pytest.raises(KeyError):
        await task
    assert task.cancelling() == 0


def test_a_client_keeps_no_event_loop_that_is_closed():
    broker = EmbeddedBroker.in_memory(SystemClock())
    client = client_of(broker)

    async def use():
        await client.open()
        await client.whoami()
        return weakref.ref(asyncio.get_running_loop())

    first = asyncio.run(use())
    asyncio.run(use())
    gc.collect()
    assert first() is None
    asyncio.run(client.close())
    asyncio.run(broker.close())
