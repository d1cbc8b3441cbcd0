"""Work that a client waits for: it hears how long, and may give up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from mcp_server.callers import Context
from mq9.clock import Clock, sleep

_logger = logging.getLogger("mq9.mcp")
T = TypeVar("T")

EVERY_S = 5.0


async def waited_for(
    context: Context, clock: Clock, wait_s: float, work: Coroutine[Any, Any, T]
) -> T:
    """Do some work, telling the client every five seconds that it goes on.

    When the client gives up, the work is cancelled once and may then clean up: what a fetch was
    about to lease is left to others.

    Args:
        context: The request that asked for it.
        clock: Tells the seconds.
        wait_s: How long it may take, in seconds, beside what the broker needs.
        work: What is done.
    """
    working = asyncio.ensure_future(work)
    telling = asyncio.ensure_future(_tell(context, clock, wait_s))
    try:
        await asyncio.wait([working])
    except asyncio.CancelledError:
        working.cancel()
        raise
    finally:
        telling.cancel()
        # anyio cancels every further await, too, until the request has ended.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working, telling])
        if not telling.cancelled() and telling.exception() is not None:
            _logger.info(
                "the client could not be told that it has to wait: %s", telling.exception()
            )
    return working.result()


async def _tell(context: Context, clock: Clock, wait_s: float) -> None:
    passed = 0.0
    while passed + EVERY_S < wait_s:
        await sleep(clock, EVERY_S)
        passed += EVERY_S
        await context.session.report_progress(
            passed, wait_s, f"no mail yet, after {passed:g} of {wait_s:g} s"
        )
