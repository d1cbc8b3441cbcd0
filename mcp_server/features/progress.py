"""Work that a client waits for: its progress is reported, and the client may give up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
from starlette.requests import Request

from mcp_server.agents.callers import Context
from mq9 import OutcomeUnknown
from mq9.clock import Clock, sleep
from mq9.operations import OperationError

_logger = logging.getLogger("mq9.mcp")
T = TypeVar("T")

INTERVAL_S = 5.0  # between two reports


async def with_progress(
    context: Context, clock: Clock, wait_s: float, work: Coroutine[Any, Any, T]
) -> T:
    """Return the result of some work, whose progress is reported to the client every five seconds.

    When the client gives up, or its connection is lost, the work is cancelled once and may then
    clean up: what a fetch was about to lease stays free for others.

    Args:
        context: The request that asked for it.
        clock: Measures the time.
        wait_s: How many seconds it may wait, beside the time that the broker needs.
        work: The work.

    Raises:
        OperationError: The connection was lost; the error reaches nobody.
    """
    working: asyncio.Task[Any] = asyncio.ensure_future(work)
    reporting: list[asyncio.Task[Any]] = []
    disconnecting: list[asyncio.Task[Any]] = []
    if wait_s:  # what does not wait is over too soon for either
        reporting.append(asyncio.ensure_future(_report(context, clock, wait_s)))
        disconnecting.append(asyncio.ensure_future(_disconnected(context)))
    try:
        await asyncio.wait([working, *disconnecting], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
    except asyncio.CancelledError:
        if not working.cancelling():
            working.cancel()
        raise
    finally:
        for one in (*reporting, *disconnecting):
            one.cancel()
        if ending := [one for one in (working, *reporting, *disconnecting) if not one.done()]:
            # anyio cancels every further await, too, until the request has ended.
            with anyio.CancelScope(shield=True):
                await asyncio.wait(ending)
        for one in reporting:
            if not one.cancelled() and one.exception() is not None:
                _logger.info("progress could not be reported: %s", one.exception())
    if working.cancelled():
        raise OperationError("the connection was lost", OutcomeUnknown.code)
    result: T = working.result()
    return result


async def _disconnected(context: Context) -> None:
    """Return when the answer to a request that waits cannot reach the client any more.

    Clients of the older protocol keep their session when a connection breaks, and requests on it go
    on. Their answers are lost, as streams are not resumed here.
    """
    if not isinstance(context.request, Request):
        await asyncio.get_running_loop().create_future()  # the transport cancels the request
        return
    while (await context.request.receive())["type"] != "http.disconnect":
        pass


async def _report(context: Context, clock: Clock, wait_s: float) -> None:
    passed = 0.0
    while passed + INTERVAL_S < wait_s:
        await sleep(clock, INTERVAL_S)
        passed += INTERVAL_S
        await context.session.report_progress(
            passed, wait_s, f"no mail yet, after {passed:g} of {wait_s:g} s"
        )
