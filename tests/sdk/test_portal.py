"""The end of an event loop that has a thread of its own."""

import asyncio
import threading

from mq9.concurrency.portal import Portal


def test_a_portal_that_is_stopped_and_then_forgotten_ends_what_it_has_begun():
    portal = Portal("portal-of-the-test")
    is_ending, is_ended = threading.Event(), threading.Event()

    async def begin():
        released = asyncio.Event()

        async def lasting():
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                is_ending.set()
                await released.wait()
                is_ended.set()

        task = asyncio.create_task(lasting())
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), threading.current_thread(), released, task

    loop, thread, released, _task = portal.call(begin())
    loop.call_soon_threadsafe(portal.stop)
    assert is_ending.wait(5)
    del portal  # which stops it once more
    loop.call_soon_threadsafe(released.set)
    thread.join(5)
    assert is_ended.is_set()
    assert loop.is_closed()
