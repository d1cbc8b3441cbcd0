"""Waiting for what happens on its own."""

import asyncio


async def until(condition, seconds=30):
    """Return when a condition holds; what makes it hold sends no event."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.001)
