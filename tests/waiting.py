"""Waiting for what happens on its own."""

import asyncio
import inspect


async def until(condition, seconds=30):
    """Return when a condition holds, asked by a function or a coroutine; no event tells of it."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(0.001)


async def until_fetching(client, mail_address, group_name):
    """Return when a FETCH has made its group: it has looked for mail, and waits for what comes."""

    async def exists():
        status = await client.mailbox_status(mail_address, group_name=group_name)
        return status.group.exists

    await until(exists)
