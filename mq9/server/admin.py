"""The HTTP port of a server: metrics for Prometheus, and health checks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mq9.broker.embedded import EmbeddedBroker
from mq9.errors import Mq9Error
from mq9.http import names_this_server
from mq9.http.port import HttpLimits, listening, serving
from mq9.models import Totals
from mq9.server import metrics as exposition
from mq9.server.metrics import Metrics, StorageSnapshot

logger = logging.getLogger("mq9.broker")
T = TypeVar("T")

PATHS = ("/metrics", "/healthz", "/readyz")
LOG = "log"  # the problem of a gateway whose log does not answer
TIMEOUT_S = 2.0
HUNG_S = 30.0
_REST = 10  # after a slow answer, the pause is so many times as long


class _Probe(Generic[T]):
    """A question to the storage, one at a time, so that nothing piles up if it hangs."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> None:
        self._ask = ask
        self._timeout_s = timeout_s
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._took_s = 0.0
        self.answer: T | None = None  # the last one; None before, or when the storage failed
        self.answered_at = 0.0  # in seconds of the event loop

    @property
    def waits_s(self) -> float:
        """For how many seconds the storage has not answered; 0 when it has."""
        is_answered = self._asking is None or self._asking.done()
        return 0.0 if is_answered else asyncio.get_running_loop().time() - self._asked_at

    async def put(self) -> bool:
        """Ask, unless a question is open or the last one was slow; return False if it is slow."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or self._asking.done():
            if self._took_s > self._timeout_s and now - self.answered_at < _REST * self._took_s:
                return True
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask_once())
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(self._asking)
        except TimeoutError:
            logger.warning("the storage did not answer within %g s", self._timeout_s)
            return False
        return True

    async def _ask_once(self) -> None:
        try:
            self.answer = await self._ask()
        except Mq9Error as error:
            self.answer = None
            logger.warning("the storage did not answer: %s", error)
            raise
        self.answered_at = asyncio.get_running_loop().time()
        self._took_s = self.answered_at - self._asked_at

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])


class Health:
    """Knows whether a broker can serve."""

    def __init__(
        self,
        broker: EmbeddedBroker,
        problem: Callable[[], str | None],
        timeout_s: float,
        hung_s: float,
        count: Callable[[], Coroutine[Any, Any, Totals]],
    ) -> None:
        self._problem = problem
        self._hung_s = hung_s
        self._check = _Probe(broker.check, timeout_s)
        self._totals = _Probe(count, timeout_s)

    async def problem(self) -> str | None:
        """Return why the server should get no traffic, such as ``draining`` or ``storage``."""
        if (problem := self._problem()) is not None:
            return problem
        with contextlib.suppress(Mq9Error):
            if await self._check.put():
                return None
        return "storage"

    async def snapshot(self) -> StorageSnapshot:
        """Return the state of the storage, soon: if counting takes long, an older count."""
        asked = await asyncio.gather(self._check.put(), self._totals.put(), return_exceptions=True)
        for outcome in asked:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Mq9Error):
                raise outcome
        is_down = isinstance(asked[0], Mq9Error) or self._check.waits_s >= self._hung_s
        if is_down or self._problem() == LOG:
            return StorageSnapshot(is_up=False)
        totals = self._totals.answer
        age_s = asyncio.get_running_loop().time() - self._totals.answered_at
        return StorageSnapshot(is_up=True, totals=totals, age_s=age_s if totals else 0.0)

    async def close(self) -> None:
        """Stop asking."""
        await self._check.close()
        await self._totals.close()


def _app(
    health: Health, metrics: Metrics, routes: Sequence[BaseRoute], hosts: Collection[str]
) -> Starlette:

    async def expose(_request: Request) -> Response:
        body = metrics.render(await health.snapshot())
        return Response(body, headers={"content-type": exposition.CONTENT_TYPE})

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok")

    async def ready(_request: Request) -> Response:
        problem = await health.problem()
        if problem is not None:
            return JSONResponse({"ready": False, "reason": problem}, 503)
        return JSONResponse({"ready": True})

    def route(path: str, answer: Callable[[Request], Awaitable[Response]]) -> Route:
        async def checked(request: Request) -> Response:
            host = request.headers.get("host")
            if host is not None and not names_this_server(host, hosts):  # no browser leaves it out
                return PlainTextResponse(f"{host} is not a name of this server\n", 421)
            return await answer(request)

        return Route(path, checked)

    answers = dict(zip(PATHS, (expose, live, ready), strict=True))
    app = Starlette(routes=[*(route(path, one) for path, one in answers.items()), *routes])
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def serve_admin(
    broker: EmbeddedBroker,
    metrics: Metrics,
    host: str = "127.0.0.1",
    port: int = 9090,
    *,
    problem: Callable[[], str | None] = lambda: None,
    listener: socket.socket | None = None,
    routes: Sequence[BaseRoute] = (),
    timeout_s: float = TIMEOUT_S,
    hung_s: float = HUNG_S,
    hosts: Collection[str] = (),
    limits: HttpLimits = HttpLimits(),
    count: Callable[[], Coroutine[Any, Any, Totals]] | None = None,
) -> AsyncIterator[tuple[str, int]]:
    """Serve metrics, health and routes on the running event loop, and yield host and port.

    The lifespan of the routes is not run. ``problem`` returns why the server cannot serve, in a
    word or two. A storage without an answer in ``hung_s`` counts as failing. ``hosts`` are names of
    this machine, in addition to ``localhost`` and its addresses. ``count`` returns the totals, by
    default those of the broker alone.
    """
    if listener is None:
        listener = await listening("admin_port", host, port)
    with listener:
        bound_host, bound_port = listener.getsockname()[:2]
        health = Health(broker, problem, timeout_s, hung_s, count or broker.totals)
        try:
            app = _app(health, metrics, routes, {host.lower(), *map(str.lower, hosts)})
            async with serving(app, listener, limits=limits, always=PATHS):
                yield bound_host, bound_port
        finally:
            await health.close()
