"""The login of a client: user, password, token, NKey or JWT, and certificates.

NKeys and JWTs need the package ``nkeys``, which is imported if a URL names one.
"""

from __future__ import annotations

import base64
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from mq9.errors import InvalidRequest
from mq9.transport.servers import ServerAddress, Servers, tls_context

# What such a file holds between lines of dashes: the JWT, then the seed of the NKey.
_SECTION = re.compile(r"^-{3,}BEGIN [^\n]*-{3,}\s*$\n(.*?)\n-{3,}END ", re.MULTILINE | re.DOTALL)


class NoNonce(Exception):
    """The server gave nothing to sign, and so takes neither NKeys nor JWTs."""


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials for each connection."""

    context: ssl.SSLContext | None = None  # what to encrypt with, where that has to be
    tls_first: bool = False
    jwt: str | None = None
    keys: Any = None  # a KeyPair of nkeys
    file: str | None = None  # that has the key

    @classmethod
    def read(cls, servers: Servers) -> Login:
        """Read the files that a URL names.

        Raises:
            InvalidRequest: One of them cannot be used.
        """
        context = tls_context(servers) if servers.must_encrypt else None
        jwt = keys = None
        if servers.creds is not None:
            sections = _SECTION.findall(_text("creds", servers.creds))
            if len(sections) != 2:
                raise InvalidRequest(
                    f"server: creds: {servers.creds} does not hold a JWT and the seed of an NKey"
                )
            jwt = sections[0].strip()
            keys = _keys("creds", servers.creds, sections[1])
        elif servers.nkey is not None:
            keys = _keys("nkey", servers.nkey, _text("nkey", servers.nkey))
        return cls(context, servers.tls_first, jwt, keys, servers.creds or servers.nkey)

    @property
    def refused(self) -> str:
        """What a server refused, and why that may be."""
        if self.keys is None:
            return "the user or token"
        if self.jwt is None:
            return f"the NKey of {self.file}: the server has no such user"
        return (
            f"the JWT of {self.file}, valid {_validity(self.jwt)}: it has expired, is revoked, or "
            "belongs to another account"
        )

    @property
    def is_signed(self) -> bool:
        """Whether the server is shown that the client has a key."""
        return self.keys is not None

    def fields(self, server: ServerAddress) -> dict[str, str]:
        """Return the fields of CONNECT about the user."""
        given = {"user": server.user, "pass": server.password, "auth_token": server.token}
        return {name: value for name, value in given.items() if value is not None}

    def sign(self, nonce: str) -> dict[str, str]:
        """Return the fields of CONNECT that answer a server's nonce; "" for none."""
        if self.keys is None:
            return {}
        if not nonce:
            raise NoNonce
        signature = base64.urlsafe_b64encode(self.keys.sign(nonce.encode())).rstrip(b"=").decode()
        if self.jwt is not None:
            return {"jwt": self.jwt, "sig": signature}
        return {"nkey": self.keys.public_key.decode(), "sig": signature}


def _validity(jwt: str) -> str:
    """Return until when a JWT is valid, as it claims itself."""
    try:
        encoded = jwt.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        expires = datetime.fromtimestamp(claims.get("exp", 0), UTC)
    except (LookupError, AttributeError, TypeError, ValueError, OverflowError, OSError):
        return "for an unreadable time"
    return f"until {expires:%Y-%m-%d %H:%M:%S} UTC" if expires.timestamp() else "without end"


def _text(option: str, file: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"server: {option}: {file} cannot be used: {error}") from None


def _keys(option: str, file: str, seed: str) -> Any:
    try:
        import nkeys  # noqa: PLC0415  # not before it is used
    except ImportError:
        raise InvalidRequest(
            f"server: {option}: it takes the package nkeys; in a clone: pip install '.[nkeys]'"
        ) from None
    try:
        return nkeys.from_seed(bytearray(seed.strip().encode()))
    except (nkeys.NkeysError, ValueError):  # its text may show the seed
        raise InvalidRequest(f"server: {option}: {file} holds no seed of an NKey") from None
