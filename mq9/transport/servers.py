"""Reads ``nats://`` and ``tls://`` URLs: servers, credentials, certificates.

Its form is in ``mq9.transport.open``. A server without credentials goes by those of the first.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mq9.address import shown
from mq9.errors import InvalidRequest
from mq9.protocol.subjects import check_caller
from mq9.wire.subjects import is_subject

SCHEMES = frozenset({"nats", "tls"})
DEFAULT_PORT = 4222
_TLS_OPTIONS = frozenset({"tls_ca", "tls_cert", "tls_key", "tls_first"})
_SWITCHES = frozenset({"tls_first", "ignore_discovered"})  # true or false
_OPTIONS = _TLS_OPTIONS | _SWITCHES | {"inbox_prefix", "creds", "nkey", "caller"}
_SCHEME = re.compile(r"\w+://")
_HOST = re.compile(r"[\w.-]+|[0-9a-f:.%]+", re.IGNORECASE)
_FORM = "nats://[user:password@|token@]host[:port] or the same with tls://"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One server."""

    scheme: str
    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls_name: str | None = None  # whose certificate it has, where that is not the host's

    @property
    def url(self) -> str:
        """The URL without the credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def has_credentials(self) -> bool:
        """Whether it has credentials."""
        return self.user is not None or self.token is not None


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of one cluster, in the order in which they are tried."""

    members: tuple[ServerAddress, ...]
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    inbox_prefix: str | None = None
    caller: str | None = None  # under whose subjects requests are published
    creds: str | None = None  # a file of a JWT and an NKey's seed
    nkey: str | None = None  # a file of an NKey's seed
    tls_first: bool = False  # before the server greets
    ignore_discovered: bool = False

    @property
    def must_encrypt(self) -> bool:
        """Whether nothing may be sent without TLS."""
        return self.members[0].scheme == "tls"

    @property
    def is_signed(self) -> bool:
        """Whether it has a key as credentials, in place of a user or token."""
        return self.creds is not None or self.nkey is not None


def without_secrets(url: str) -> str:
    """Return a URL as it may be shown: without the credentials, however malformed it is."""
    scheme = url.partition("://")[0].lower()
    if scheme in {"sqlite", "memory"}:
        return url
    if scheme in SCHEMES:
        try:
            # Of a well-formed one more can be shown than what follows the last '@'.
            return ",".join(
                server.url.replace("://", "://***@") if server.has_credentials else server.url
                for server in parse(url).members
            )
        except InvalidRequest:
            pass
    return _tail(url)


def _tail(url: str) -> str:
    before, at, rest = url.rpartition("@")
    begin = _SCHEME.match(before)
    return f"{begin.group() if begin else ''}***@{rest}" if at else url


def parse(url: str) -> Servers:
    """Read a URL."""
    addresses, question_mark, query = url.partition("?")
    written = [part.strip() for part in addresses.split(",")]
    scheme = written[0].partition("://")[0].lower()
    members = [_server(part if "://" in part else f"{scheme}://{part}", url) for part in written]
    if len({server.scheme for server in members}) > 1:
        raise InvalidRequest("server: nats:// and tls:// servers cannot be mixed")
    first = members[0]
    members[1:] = [
        one
        if one.has_credentials
        else replace(one, user=first.user, password=first.password, token=first.token)
        for one in members[1:]
    ]
    options = dict(_options(query)) if question_mark else {}
    if scheme != "tls" and (of_tls := options.keys() & _TLS_OPTIONS):
        raise InvalidRequest(f"server: {min(of_tls)} is an option of tls:// URLs")
    if "tls_key" in options and "tls_cert" not in options:
        raise InvalidRequest("server: tls_key needs tls_cert, the certificate that it belongs to")
    inbox_prefix = options.get("inbox_prefix")
    if inbox_prefix is not None and not _is_inbox_prefix(inbox_prefix):
        raise InvalidRequest(
            f"server: inbox_prefix: {shown(inbox_prefix)} is not the beginning of an inbox; write "
            "whole tokens without a dot at the end, such as _INBOX.ada"
        )
    if "caller" in options:
        check_caller("server: caller", options["caller"])
    switches = {name: _switch(name, options.pop(name, "false")) for name in _SWITCHES}
    if "creds" in options and "nkey" in options:
        raise InvalidRequest("server: creds has the seed of an NKey, so nkey cannot be named, too")
    if any(one.has_credentials for one in members) and (
        of_key := options.keys() & {"creds", "nkey"}
    ):
        raise InvalidRequest(f"server: {min(of_key)} is instead of a user or token in the URL")
    return Servers(
        tuple(members),
        ca=options.get("tls_ca"),
        cert=options.get("tls_cert"),
        key=options.get("tls_key"),
        inbox_prefix=inbox_prefix,
        caller=options.get("caller"),
        creds=options.get("creds"),
        nkey=options.get("nkey"),
        **switches,
    )


def has_credentials(url: str) -> bool:
    """Return whether a URL has credentials."""
    servers = parse(url)
    return servers.is_signed or any(server.has_credentials for server in servers.members)


def discovered(address: str, by: ServerAddress) -> ServerAddress | None:
    """Return a server as another one of its cluster names it; None where that cannot be read."""
    try:
        other = _server(f"{by.scheme}://{address}", address)
    except InvalidRequest:
        return None
    # By a certificate for a name that it shares with the other; its address is seldom in one.
    is_address = other.host.replace(".", "").isdigit() or ":" in other.host
    name = (by.tls_name or by.host) if is_address else None
    return replace(by, host=other.host, port=other.port, tls_name=name)


def with_token(url: str, token: str) -> str:
    """Return a URL that names no credentials, with a token as these."""
    if has_credentials(url):
        raise InvalidRequest(f"server: {without_secrets(url)!r} names a user or token already")
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(token, safe='')}@{rest}"


def tls_context(servers: Servers) -> ssl.SSLContext:
    """Return what to encrypt connections with."""
    try:
        context = ssl.create_default_context(cafile=servers.ca)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"server: tls_ca: {servers.ca} cannot be used: {error}") from None
    if servers.cert is not None:
        try:
            # Without a password Python would ask for that of an encrypted key on the terminal.
            context.load_cert_chain(servers.cert, servers.key, password="")
        except (OSError, ValueError) as error:
            files = servers.cert if servers.key is None else f"{servers.cert} with {servers.key}"
            raise InvalidRequest(f"server: tls_cert: {files} cannot be used: {error}") from None
    return context


def _server(address: str, url: str) -> ServerAddress:
    """Read one server of a URL."""
    wrong = InvalidRequest(f"server: {_tail(url)!r} is not {_FORM}")
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname
    except ValueError:  # its text may show a password
        raise wrong from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES or parts.path not in {"", "/"} or parts.fragment:
        raise wrong
    if not host or not _HOST.fullmatch(host) or port == 0 or parts.netloc.endswith(":"):
        raise wrong
    if parts.username == "":
        raise InvalidRequest(f"server: {_tail(url)!r} has no user or token before the '@'")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    port = DEFAULT_PORT if port is None else port
    if password is None:
        return ServerAddress(scheme, host, port, token=user)
    return ServerAddress(scheme, host, port, user, password)


def _is_inbox_prefix(text: str) -> bool:
    is_printable = text.isascii() and text.isprintable() and " " not in text
    return is_printable and not text.startswith("$") and is_subject(text)


def _switch(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise InvalidRequest(f"server: {name} is true or false, and not {shown(text)}")
    return text == "true"


def _options(query: str) -> list[tuple[str, str]]:
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, value in pairs:
        if name not in _OPTIONS:
            shown = name if name.isidentifier() else "what follows the '?'"
            known = ", ".join(sorted(_OPTIONS))
            raise InvalidRequest(f"server: {shown} is not an option of the URL; {known} are")
        if not value:
            raise InvalidRequest(f"server: the option {name} is empty")
    return pairs
