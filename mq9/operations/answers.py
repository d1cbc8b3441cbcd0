"""Waiting until questions are answered, without taking the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mq9.client.answers import first_answers, stored_answers
from mq9.client.ordered_reading import OrderedReading
from mq9.models import Message
from mq9.operations.caller import Caller


async def answered(
    caller: Caller, inboxes: Sequence[str], wanted: Sequence[str], seconds: float
) -> dict[str, int]:
    """Wait until questions are answered, and return the msg_ids of the answers."""

    async def find(address: str) -> dict[str, Message]:
        found, next_id = await stored_answers(caller.client, address, list(wanted))
        missing = {one for one in wanted if one not in found}
        if not missing:
            return found
        reading = OrderedReading(caller.client, address, next_id)
        clock = caller.client.clock
        return found | await first_answers(reading, missing, clock=clock, seconds=seconds)

    searches = [asyncio.create_task(find(address)) for address in inboxes]
    found: dict[str, int] = {}
    try:
        for search in asyncio.as_completed(searches):
            found |= {which: one.msg_id for which, one in (await search).items()}
            if len(found) == len(set(wanted)):
                break
    finally:
        for one in searches:
            one.cancel()
        await asyncio.gather(*searches, return_exceptions=True)
    return found
