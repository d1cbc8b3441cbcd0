"""Work that a client waits for: it hears how long, and may give up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
from starlette.requests import Request

from mcp_server.agents.callers import Context
from mq9 import Unavailable
from mq9.clock import Clock, sleep
from mq9.operations import OperationError

_logger = logging.getLogger("mq9.mcp")
T = TypeVar("T")

EVERY_S = 5.0


async def waited_for(
    context: Context, clock: Clock, wait_s: float, work: Coroutine[Any, Any, T]
) -> T:
    """Do some work, telling the client every five seconds that it goes on.

    When the client gives up, or its connection is lost, the work is cancelled once and may then
    clean up: what a fetch was about to lease is left to others.

    Args:
        context: The request that asked for it.
        clock: Tells the seconds.
        wait_s: How long it may take, in seconds, beside what the broker needs.
        work: What is done.

    Raises:
        OperationError: The connection was lost; nobody hears it.
    """
    working = asyncio.ensure_future(work)
    telling = asyncio.ensure_future(_tell(context, clock, wait_s))
    losing = asyncio.ensure_future(_loss(context, wait_s))
    try:
        await asyncio.wait([working, losing], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
    except asyncio.CancelledError:
        if not working.cancelling():
            working.cancel()
        raise
    finally:
        telling.cancel()
        losing.cancel()
        # anyio cancels every further await, too, until the request has ended.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([working, telling, losing])
        if not telling.cancelled() and telling.exception() is not None:
            _logger.info(
                "the client could not be told that it has to wait: %s", telling.exception()
            )
    if working.cancelled():
        raise OperationError("the connection was lost", Unavailable.code)
    return working.result()


async def _loss(context: Context, wait_s: float) -> None:
    """Return when nobody can hear the answer to a request that waits.

    Clients of the older protocol keep their session when a connection breaks, and what was asked on
    it goes on. Its answer has no other way to them, as streams are not resumed here.
    """
    if not wait_s or not isinstance(context.request, Request):
        await asyncio.get_running_loop().create_future()  # the transport tells, by cancelling
        return
    while (await context.request.receive())["type"] != "http.disconnect":
        pass


async def _tell(context: Context, clock: Clock, wait_s: float) -> None:
    passed = 0.0
    while passed + EVERY_S < wait_s:
        await sleep(clock, EVERY_S)
        passed += EVERY_S
        await context.session.report_progress(
            passed, wait_s, f"no mail yet, after {passed:g} of {wait_s:g} s"
        )
