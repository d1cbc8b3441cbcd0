"""The HTTP port of a server: metrics for Prometheus, health for whoever keeps it running."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mq9.broker import metrics as exposition
from mq9.broker.metrics import Metrics
from mq9.errors import Mq9Error
from mq9.http_port import listening, serving

if TYPE_CHECKING:
    from mq9.models import Totals

logger = logging.getLogger("mq9.broker")
T = TypeVar("T")

PATIENCE_S = 2.0


class Asked(Protocol):
    """A broker, as far as this port knows it."""

    async def check(self) -> None:
        """See whether the storage works."""

    async def totals(self) -> Totals:
        """Count what the broker holds."""


class Drainable(Protocol):
    """A server, as far as this port knows it."""

    @property
    def is_draining(self) -> bool:
        """Whether it begins nothing new."""


class _Question(Generic[T]):
    """Something that the storage is asked, by one at a time: where it hangs, nothing piles up."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]], patience_s: float) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._asking: asyncio.Task[T] | None = None

    async def answer(self) -> tuple[T] | None:
        """Return the answer; None when the storage fails or does not answer in time."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(self._patience_s):
                return (await asyncio.shield(self._asking),)
        except TimeoutError:
            logger.warning("the storage did not answer within %g s", self._patience_s)
        except Mq9Error as error:
            logger.warning("the storage did not answer: %s", error)
        return None

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take note of an outcome that perhaps nobody waits for any more."""
    if not task.cancelled():
        task.exception()


class Health:
    """Knows whether a broker can serve.

    Args:
        broker: Whose storage is asked.
        server: Whether it drains is asked too, when given.
        patience_s: Seconds in which the storage must answer.
    """

    def __init__(
        self, broker: Asked, server: Drainable | None = None, *, patience_s: float = PATIENCE_S
    ) -> None:
        self._server = server
        self._check = _Question(broker.check, patience_s)
        self._totals = _Question(broker.totals, patience_s)

    async def problem(self) -> str | None:
        """Return why the server should get no traffic: ``draining``, ``storage``; None if none."""
        if self._server is not None and self._server.is_draining:
            return "draining"
        return "storage" if await self._check.answer() is None else None

    async def totals(self) -> Totals | None:
        """Return what the broker holds; None when the storage fails or does not answer in time."""
        if await self._check.answer() is None:
            return None
        counted = await self._totals.answer()
        return None if counted is None else counted[0]

    async def close(self) -> None:
        """Stop asking."""
        await self._check.close()
        await self._totals.close()


def admin_app(health: Health, metrics: Metrics, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Make the app that answers ``/metrics``, ``/healthz`` and ``/readyz``.

    Args:
        health: Asked whether the server can serve.
        metrics: What is exposed.
        routes: What else is served. Their lifespan is not run: enter it where the app is served.
    """

    async def expose(_request: Request) -> Response:
        body = metrics.render(await health.totals())
        return Response(body, headers={"content-type": exposition.CONTENT_TYPE})

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok")

    async def ready(_request: Request) -> Response:
        problem = await health.problem()
        if problem is not None:
            return JSONResponse({"ready": False, "reason": problem}, 503)
        return JSONResponse({"ready": True})

    app = Starlette(
        routes=[
            Route("/metrics", expose),
            Route("/healthz", live),
            Route("/readyz", ready),
            *routes,
        ]
    )
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def serve_admin(
    broker: Asked,
    metrics: Metrics,
    host: str = "127.0.0.1",
    port: int = 9090,
    server: Drainable | None = None,
    *,
    listener: socket.socket | None = None,
    routes: Sequence[BaseRoute] = (),
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[tuple[str, int]]:
    """Serve metrics and health on the running event loop, while inside.

    Args:
        broker: Whose storage is asked.
        metrics: What is exposed.
        host: The address to listen on; the first one, where a name has several.
        port: The port, 0 to 65535; 0 lets the system choose.
        server: Whether it drains is asked for ``/readyz``.
        listener: A bound stream socket to use instead of ``host`` and ``port``; it is closed.
        routes: What else is served on that port.
        patience_s: Seconds in which the storage must answer.

    Yields:
        The host and port that it listens on.

    Raises:
        InvalidRequest: There is no such port.
        Unreachable: Nobody can listen there.
    """
    if listener is None:
        listener = await listening("admin_port", host, port)
    with listener:
        bound_host, bound_port = listener.getsockname()[:2]
        health = Health(broker, server, patience_s=patience_s)
        try:
            async with serving(admin_app(health, metrics, routes), listener):
                yield bound_host, bound_port
        finally:
            await health.close()
