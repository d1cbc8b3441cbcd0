"""A gateway's or an operator's connection to the NATS servers of a cluster."""

from __future__ import annotations

import asyncio
import logging
import ssl

import nats.errors
from nats.aio.client import Client

from mq9.errors import Unreachable
from mq9.transport import servers

logger = logging.getLogger("mq9.broker")

_CONNECT_S = 10
_PAUSE_S = 0.5  # before the same server is tried again
_PING_S = 2
_MOST_UNSENT = 64 * 1024 * 1024  # bytes, while no server can be reached


async def connect(url: str, name: str) -> Client:
    """Return a connection, which goes to another server when its own ends.

    Args:
        url: One or several servers, as a client would name them.
        name: What the servers call it.

    Raises:
        InvalidRequest: It is no such URL.
        Unreachable: No server can be reached, or none lets this one in.
    """
    wanted = servers.parse(url)
    first = wanted.members[0]
    context: ssl.SSLContext | None = servers.tls_context(wanted) if wanted.must_encrypt else None

    async def note(error: Exception) -> None:
        logger.warning("the cluster: %r", error)

    client = Client()
    try:
        # By itself it would try for ever to reach a first server.
        async with asyncio.timeout(_CONNECT_S):
            await client.connect(
                [server.url for server in wanted.members],
                name=name,
                user=first.user,
                password=first.password,
                token=first.token,
                tls=context,
                error_cb=note,
                connect_timeout=_CONNECT_S,
                reconnect_time_wait=_PAUSE_S,  # type: ignore[arg-type]  # takes fractions
                max_reconnect_attempts=-1,
                ping_interval=_PING_S,
                max_outstanding_pings=2,
                pending_size=_MOST_UNSENT,
            )
    except (nats.errors.Error, OSError) as error:
        await client.close()
        shown = servers.without_secrets(url)
        raise Unreachable(f"cluster: {shown} cannot be reached: {error!r}") from error
    except BaseException:
        await client.close()
        raise
    return client
