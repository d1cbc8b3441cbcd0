"""MCP on the HTTP port of ``mq9 serve``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.routing import BaseRoute

from mq9.broker.embedded import EmbeddedBroker
from mq9.broker.service import Session
from mq9.client.client import Mq9Client
from mq9.errors import InvalidRequest
from mq9.http.loopback import is_loopback
from mq9.server.settings import Settings
from mq9.server.users import Guard, Users
from mq9.transport.direct import DirectTransport


@asynccontextmanager
async def mcp_routes(
    settings: Settings, broker: EmbeddedBroker, guard: Guard
) -> AsyncIterator[list[BaseRoute]]:
    """Give the routes at which MCP is served, while inside; none unless the settings ask for it.

    Args:
        settings: How the server is set up.
        broker: Whose mailboxes MCP clients use.
        guard: Knows the bearer tokens, where there are users.

    Raises:
        InvalidRequest: MCP cannot be served here.
    """
    if not settings.mcp:
        yield []
        return
    try:
        from mcp_server.callers import Callers  # noqa: PLC0415  # see above
        from mcp_server.http import routes as http  # noqa: PLC0415  # the extra may be missing
        from mcp_server.naming import refuse_auto  # noqa: PLC0415  # see above
        from mcp_server.run import check_names  # noqa: PLC0415  # see above
        from mcp_server.server import make_server  # noqa: PLC0415  # see above
        from mcp_server.settings import HOST_KEEP_S, HOST_LEASE_S  # noqa: PLC0415  # see above
        from mcp_server.settings import Settings as Offer  # noqa: PLC0415  # see above
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            f"mcp: it needs {error.name}, which the extra `mcp` of this package installs"
        ) from error
    users = guard if isinstance(guard, Users) else None

    def connect(agent: str) -> Mq9Client:
        session = Session(
            f"mcp.{secrets.token_hex(8)}", agent if users is not None else None, guard.reserved
        )
        return Mq9Client(transport=DirectTransport(broker, session, _stay))

    host = settings.admin_host
    check_names("mcp-allow-host", host, settings.mcp_allow_host)
    offer = Offer(lease_ms=HOST_LEASE_S * 1000, keep_ms=HOST_KEEP_S * 1000)
    refuse_auto("mcp-agent", settings.mcp_agent)
    callers = Callers(connect, offer, agent=settings.mcp_agent)
    await callers.make_mailboxes(users.agents_with_tokens if users is not None else ())
    async with http.mcp_routes(
        make_server(callers, offer),
        verifier=None if users is None else http.KnownTokens(users),
        hosts=(*(() if is_loopback(host) else (host,)), *settings.mcp_allow_host),
        origins=settings.mcp_allow_origin,
    ) as routes:
        yield routes


async def _stay() -> None:
    """Leave the broker to the server that it belongs to."""
