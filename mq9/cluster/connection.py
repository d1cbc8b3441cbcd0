"""A gateway's or an operator's connection to the NATS servers of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable

import nats.errors
from nats.aio.client import Client

from mq9.errors import InvalidRequest, Unauthorized, Unreachable
from mq9.transport import servers
from mq9.transport.nats_login import Login

logger = logging.getLogger("mq9.broker")

_OLDEST = (2, 11)  # with batched direct gets
_REFUSED = re.compile(
    r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE
)
_MOST_REFUSALS = 100
_CONNECT_S = 10.0
_PAUSE_S = 0.5  # before the same server is tried again
_PING_S = 2
_MOST_UNSENT = 64 * 1024 * 1024  # bytes, while no server can be reached


def _is_news(record: logging.LogRecord) -> bool:
    """Drop a warning of asyncio about nats-py at each end of a TLS connection."""
    return "eof_received" not in record.getMessage()


logging.getLogger("asyncio").addFilter(_is_news)


async def connect(
    url: str,
    name: str,
    inbox: str,
    seconds: float = _CONNECT_S,
    refusals: list[str] | None = None,
    on_closed: Callable[[str], None] = lambda _: None,
) -> Client:
    """Return a connection, which goes to another server when its own ends.

    Args:
        url: The servers.
        name: The name of the connection.
        inbox: The beginning of its inboxes.
        seconds: The longest time to connect.
        refusals: Where to note what the server does not permit: ``publish mq9.append.x``, in small
            letters; the first 100.
        on_closed: Called with the reason when nats-py has given up the connection.
    """
    wanted = servers.parse(url)
    if wanted.caller is not None:
        raise InvalidRequest("cluster: caller is for clients; gateways and operators have none")
    if wanted.inbox_prefix is not None:
        raise InvalidRequest(
            f"cluster: inbox_prefix is for clients; gateways and operators have {inbox}"
        )
    if wanted.ignore_discovered:
        raise InvalidRequest("cluster: ignore_discovered is for clients")
    first = wanted.members[0]
    login = await asyncio.to_thread(Login.read, wanted)  # nats-py reads its files again each time
    attempt = _Attempt(refusals, wanted)
    client = _Client()

    async def closed() -> None:
        on_closed(str(client.last_error or "no reason").removeprefix("nats: "))

    try:
        # By itself it would try for ever to reach a first server.
        async with asyncio.timeout(seconds) as attempt.deadline:
            await client.connect(
                [server.url for server in wanted.members],
                name=name,
                user=first.user,
                password=first.password,
                token=first.token,
                tls=login.context,
                tls_handshake_first=wanted.tls_first,
                user_credentials=wanted.creds,
                nkeys_seed=wanted.nkey,
                error_cb=attempt.note,
                closed_cb=closed,
                connect_timeout=_CONNECT_S,  # type: ignore[arg-type]  # takes fractions
                reconnect_time_wait=_PAUSE_S,  # type: ignore[arg-type]  # takes fractions
                max_reconnect_attempts=-1,
                ping_interval=_PING_S,
                max_outstanding_pings=2,
                pending_size=_MOST_UNSENT,
                inbox_prefix=inbox,
            )
        attempt.deadline = None
        _check_version(client, servers.without_secrets(url))
    except (nats.errors.Error, OSError) as error:
        await close(client)
        shown = servers.without_secrets(url)
        if attempt.refusal is not None:
            raise Unauthorized(f"cluster: {shown} refused {login.refused}") from error
        met = attempt.error or error
        said = met.strerror if isinstance(met, OSError) and met.strerror else repr(met)
        raise Unreachable(
            f"cluster: no server answers at {shown} within {seconds:g} s: {said}"
        ) from error
    except BaseException:
        await close(client)
        raise
    return client


async def close(client: Client) -> None:
    """Close a connection, even if the server has cut it."""
    with contextlib.suppress(OSError):
        await client.close()


def _check_version(client: Client, shown: str) -> None:
    version = client.connected_server_version
    found = f"{version.major}.{version.minor}.{version.patch}"
    if (0, 0) < (version.major, version.minor) < _OLDEST:
        raise InvalidRequest(
            f"cluster: the NATS server at {shown} has version {found}, and gateways need "
            f"{_OLDEST[0]}.{_OLDEST[1]} or later: older ones cannot read several records at once"
        )


def _is_of_credentials(error: Exception) -> bool:
    said = str(error).lower()
    return "authorization" in said or "user authentication" in said


class _Client(Client):
    """Reconnects after each error of a server by which the connection ends.

    By itself nats-py is closed for good by the errors that it does not know, such as an expired
    user, unless it notices the end of the connection first.
    """

    async def _process_err(self, err_msg: str) -> None:
        if self.is_connected and not _REFUSED.search(err_msg):
            error = nats.errors.Error(err_msg.strip("'"))
            await self._error_cb(error)
            await self._process_op_err(error)
        else:
            await super()._process_err(err_msg)

    async def _select_next_server(self) -> None:
        if self._transport is not None:
            # That of an attempt which failed.
            self._transport.close()  # type: ignore[no-untyped-call]  # nats-py has no type for it
        await super()._select_next_server()


class _Attempt:
    """Events of a connection, from the first attempt on."""

    def __init__(self, refusals: list[str] | None, wanted: servers.Servers) -> None:
        self._refusals = refusals
        self._wanted = wanted
        self.deadline: asyncio.Timeout | None = None
        self.error: Exception | None = None
        self.refusal: Exception | None = None  # of the credentials: final

    async def note(self, error: Exception) -> None:
        refused = _REFUSED.search(str(error))
        if refused and self._refusals is not None and len(self._refusals) < _MOST_REFUSALS:
            verb = "publish" if refused[1].lower() == "publish" else "subscribe"
            self._refusals.append(f"{verb} {refused[2].lower()}")
        if self.deadline is None and _is_of_credentials(error):
            logger.warning("the cluster: a NATS server refused %s", await self._refused())
            return
        if self.deadline is None:
            logger.warning("the cluster: %r", error)
            return
        if self.refusal is None and _is_of_credentials(error):
            self.refusal = error
            # When the client has let go of this server, and waits before it tries the next.
            self.deadline.reschedule(asyncio.get_running_loop().time() + _PAUSE_S / 2)
        else:
            self.error = error

    async def _refused(self) -> str:
        """Return what a server refused, as it stands in the file now."""
        try:
            return (await asyncio.to_thread(Login.read, self._wanted)).refused
        except InvalidRequest as error:
            return f"the login ({error})"
