"""How a server is set up: what was asked for, checked before anything is opened."""

from __future__ import annotations

import pkgutil
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mq9.discovery.embeddings import Embeddings, checked, default_embeddings
from mq9.engine.commands import Limits
from mq9.errors import InvalidRequest
from mq9.http.loopback import is_loopback
from mq9.protocol.headers import PayloadEncoding
from mq9.server.limits import ServerLimits
from mq9.server.users import Anybody, Guard, Users
from mq9.storage.store import Durability


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a server is told.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0 lets the system choose.
        data: The broker's file; None to keep everything in memory.
        durability: What a reply promises.
        auth_token: What a client must know to be let in.
        users: A file that says who may connect, and which agent each is.
        tls_cert: The certificate, and what it needs to be trusted, as PEM.
        tls_key: The certificate's key, as PEM.
        insecure: Whether it may be reached from other machines though anybody is let in.
        admin_host: The address that metrics and health are served on.
        admin_port: Their port; 0 lets the system choose, None serves none.
        admin_allow_host: Names by which metrics and health may be called, beside addresses.
        mcp: Whether MCP is served on the port of metrics and health, too.
        mcp_agent: The agent that MCP clients are, where no bearer token says so.
        mcp_allow_host: Names by which MCP clients may call this machine, beside those of loopback.
        mcp_allow_origin: Origins of web pages that may call MCP, beside those on loopback.
        payload_encoding: How payloads stand in replies to requests that do not say.
        embeddings: What finds agents by meaning, as ``module:attribute``; by default WordLlama,
            where it is installed.
        limits: What the broker stores.
        server_limits: What is taken from the network.
        drain_s: Seconds that what was begun may take when the server stops.

    Raises:
        InvalidRequest: They contradict each other, or would let anybody in from anywhere.
    """

    host: str = "127.0.0.1"
    port: int = 4222
    data: Path | None = None
    durability: Durability = Durability.NORMAL
    auth_token: str | None = field(default=None, repr=False)
    users: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    admin_host: str = "127.0.0.1"
    admin_port: int | None = 9090
    admin_allow_host: Sequence[str] = ()
    mcp: bool = False
    mcp_agent: str | None = None
    mcp_allow_host: Sequence[str] = ()
    mcp_allow_origin: Sequence[str] = ()
    payload_encoding: PayloadEncoding = PayloadEncoding.AUTO
    embeddings: str | None = None
    limits: Limits = field(default_factory=Limits)
    server_limits: ServerLimits = field(default_factory=ServerLimits)
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        """Check them."""
        if self.auth_token is not None and self.users is not None:
            raise InvalidRequest("users: give either a users file or an auth token")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidRequest("tls-key: TLS needs both a certificate and its key")
        if self.data is None and self.durability is not Durability.NORMAL:
            raise InvalidRequest("durability: what is kept in memory survives nothing")
        self._check_mcp()
        if self.insecure:
            return
        if not is_loopback(self.host) and self.auth_token is None and self.users is None:
            raise InvalidRequest(
                f"host: {self.host} can be reached from other machines, and anybody would be let "
                "in; ask for a token (--auth-token) or for users (--users), or say --insecure"
            )
        if self.admin_port is not None and not is_loopback(self.admin_host):
            raise InvalidRequest(
                f"admin-host: {self.admin_host} can be reached from other machines, and metrics "
                "ask for no password; say --insecure if that is meant"
            )

    def _check_mcp(self) -> None:
        if not self.mcp:
            if self.mcp_agent is not None:
                raise InvalidRequest(f"mcp-agent: {self.mcp_agent!r} is for --mcp")
            return
        if self.admin_port is None:
            raise InvalidRequest("mcp: it is served on the admin port, and there is none")
        if (self.users is None) == (self.mcp_agent is None):
            raise InvalidRequest(
                "mcp: say who MCP clients are, by --users, whose tokens they then need, or by "
                "--mcp-agent NAME, which all of them are"
            )
        if self.auth_token is not None:
            raise InvalidRequest(
                "mcp: with --auth-token MCP clients would come in without it; use --users"
            )

    def embedder(self) -> Embeddings | None:
        """Return what finds agents by meaning, if there is anything.

        Raises:
            InvalidRequest: What was named is not there, or is no embeddings.
        """
        if self.embeddings is None:
            return default_embeddings()
        try:
            found = pkgutil.resolve_name(self.embeddings)
            made = found() if isinstance(found, type) else found
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise InvalidRequest(f"embeddings: {self.embeddings!r}: {error}") from error
        return checked("embeddings", made)

    def guard(self) -> Guard:
        """Return who decides who may connect.

        Raises:
            InvalidRequest: The users file cannot be used, or the token is none.
        """
        if self.users is not None:
            return Users.from_file(self.users)
        if self.auth_token is not None:
            return Users.with_token(self.auth_token)
        return Anybody()

    def tls(self) -> ssl.SSLContext | None:
        """Return what to encrypt with, if with anything.

        Raises:
            InvalidRequest: The certificate or its key cannot be used.
        """
        if self.tls_cert is None or self.tls_key is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise InvalidRequest(
                f"tls-cert: {self.tls_cert} and {self.tls_key} cannot be used: {error}"
            ) from None
        return context
