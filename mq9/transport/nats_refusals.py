"""Errors of refused connections, with the next step."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

from mq9.errors import Mq9Error, Unauthorized, Unreachable
from mq9.transport import nats_connection
from mq9.transport.nats_connection import ConnectionClosed, Refused, TlsNotOffered
from mq9.transport.nats_login import Login, NoNonce
from mq9.transport.servers import ServerAddress
from mq9.wire.parser import ProtocolError


def none_of(refusals: list[Mq9Error]) -> Mq9Error:
    """Return the error with the answers of all servers, of the most specific class."""
    if len(refusals) == 1:
        return refusals[0]
    told = "; ".join(map(str, refusals))
    return Unauthorized(told) if Unauthorized in map(type, refusals) else Unreachable(told)


def not_connected(
    server: ServerAddress, login: Login, error: Exception
) -> Unreachable | Unauthorized:
    """Return our error for a refusal of the server, or an error of TLS or the socket."""
    if isinstance(error, Refused) and _is_of_credentials(str(error)):
        if not server.has_credentials and login.keys is None:
            return Unauthorized(f"{server.url} wants a user or token, and the URL names none")
        return Unauthorized(f"{server.url} refused {login.refused}")
    if isinstance(error, NoNonce):
        return Unauthorized(f"{server.url} takes neither NKeys nor JWTs")
    for kind, tell in _REASONS.items():
        if isinstance(error, kind):
            return Unreachable(f"no mq9 broker answers at {server.url}: {tell(error)}")
    told = str(error) or type(error).__name__
    return Unreachable(f"no mq9 broker answers at {server.url}: {told}")


def _is_of_credentials(said: str) -> bool:
    return "authorization" in said or ("authentication" in said and "timeout" not in said)


def _socket_error(error: OSError) -> str:
    # If a host has several addresses, asyncio raises one error that names each.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "connection refused; start one with `mq9 serve`"
    return error.strerror or str(error)


# The first that fits decides.
_REASONS: dict[type[Exception], Callable[[Any], str]] = {
    ssl.SSLCertVerificationError: lambda error: (
        f"its TLS certificate is not trusted ({error.verify_message}); name the CA's certificate "
        "with tls://...?tls_ca=FILE"
    ),
    ssl.SSLError: lambda error: (
        f"TLS failed ({error.reason or error}); a server that asks for a client certificate gets "
        "it with tls://...?tls_cert=FILE&tls_key=FILE"
    ),
    TlsNotOffered: lambda _: (
        "the server does not offer TLS, so nothing was sent to it; where that is meant, use nats://"
    ),
    socket.gaierror: lambda error: f"the host is not known ({error.strerror})",
    TimeoutError: lambda _: (
        f"no NATS server answered within {nats_connection.CONNECT_TIMEOUT_S:g} s"
    ),
    ConnectionClosed: lambda _: "the connection was closed",
    OSError: _socket_error,
    ProtocolError: lambda error: f"what answers there does not speak NATS: {error}",
}
