"""Who may connect to a server, and which agent a connection then is.

A users file is TOML, one table per user::

    [[users]]
    agent = "Claude-Desktop"      # what the broker writes as `from`; omit it for an operator
    token = "sha256:9f86d081…"    # or user = "…" and password = "…"

A secret is written as it is, or as ``sha256:`` and its hexadecimal digest, which is safe only for
secrets that cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mq9.errors import InvalidRequest, Unauthorized
from mq9.protocol import checks
from mq9.reserved import Reserved

logger = logging.getLogger("mq9.broker")

_DIGEST = "sha256:"
_FIELDS = {"agent", "user", "password", "token"}


class Guard(Protocol):
    """Decides who may connect."""

    @property
    def is_open(self) -> bool:
        """Whether anybody may connect."""

    @property
    def reserved(self) -> Reserved | None:
        """What belongs to the configured agents; None where no agents are configured."""

    def admit(self, credentials: Mapping[str, Any]) -> str | None:
        """Return the agent that a connection is; None for one that is no agent.

        Args:
            credentials: The ``user``, ``pass`` and ``auth_token`` of a CONNECT, where given.

        Raises:
            Unauthorized: They admit nobody. The text holds no secret.
        """


class Anybody:
    """Lets everybody in, as nobody in particular."""

    is_open = True
    reserved = None

    def admit(self, _credentials: Mapping[str, Any]) -> None:
        """Let them in."""


@dataclass(frozen=True, slots=True)
class User:
    """One who may connect, by token or by name and password.

    Attributes:
        secret: The token or password, or its digest after ``sha256:``.
        name: The user name; None for a token.
        agent: The agent that the user is; None for an operator, who may do anything.
    """

    secret: str
    name: str | None = None
    agent: str | None = None

    @property
    def digest(self) -> str:
        """The secret as it may be kept, in hexadecimal."""
        if self.secret.startswith(_DIGEST):
            return self.secret.removeprefix(_DIGEST)
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def has(self, name: object, secret: object) -> bool:
        """Tell whether these are the user's credentials, in a time that tells nothing."""
        if name != self.name or not isinstance(secret, str):
            return False
        given = hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
        return hmac.compare_digest(given, self.digest)


class Users:
    """Lets the users in that it was given.

    Args:
        users: Who they are.

    Attributes:
        reserved: What belongs to the agents among them; None when there are none.

    Raises:
        InvalidRequest: Two agents have the same mailbox.
    """

    is_open = False

    def __init__(self, users: Sequence[User]) -> None:
        self._users = tuple(users)
        agents = [user.agent for user in users if user.agent is not None]
        self.reserved = Reserved(agents) if agents else None

    @classmethod
    def with_token(cls, token: str) -> Users:
        """Let in whoever has a token, as nobody in particular.

        Raises:
            InvalidRequest: The token is empty or not printable.
        """
        return cls([User(_secret("auth-token", token))])

    @classmethod
    def from_file(cls, path: Path) -> Users:
        """Read a users file.

        Raises:
            InvalidRequest: It cannot be read, or says something that is not understood. The text
                names the line or user, and no secret.
        """
        try:
            data = tomllib.loads(path.read_text("utf-8"))
            others_may_read = path.stat().st_mode & 0o077
        except OSError as error:
            raise InvalidRequest(f"users: {path} cannot be read: {error.strerror}") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidRequest(f"users: {path} is not TOML: {error}") from None
        tables = data.get("users")
        if data.keys() != {"users"} or not isinstance(tables, list) or not tables:
            raise InvalidRequest(f"users: {path} must hold [[users]] tables, and nothing else")
        users = [_user(f"users: user {n} in {path}", table) for n, table in enumerate(tables, 1)]
        names = [user.name for user in users if user.name is not None]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidRequest(f"users: {path} has the user {twice!r} twice")
        tokens = [user.digest for user in users if user.name is None]
        for n, user in enumerate(users, 1):
            if user.name is None and tokens.count(user.digest) > 1:
                raise InvalidRequest(f"users: user {n} in {path} has the token of another")
        if others_may_read:
            logger.warning("%s holds secrets and others may read it; chmod 600 it", path)
        try:
            return cls(users)
        except InvalidRequest as error:
            raise InvalidRequest(f"users: {path}: {error}") from None

    @property
    def agents_with_tokens(self) -> list[str]:
        """The agents that have a token, each once."""
        found = (one.agent for one in self._users if one.name is None)
        return list(dict.fromkeys(agent for agent in found if agent is not None))

    def admit(self, credentials: Mapping[str, Any]) -> str | None:
        """Return the agent that a connection is; None for one that is no agent."""
        name = credentials.get("user") or None
        # Clients send a token alone as auth_token, and some as a user name without a password.
        token = credentials.get("auth_token") or (None if credentials.get("pass") else name)
        for user in self._users:
            if user.name is None:
                if user.has(None, token):
                    return user.agent
            elif user.has(name, credentials.get("pass")):
                return user.agent
        if any(user.name == name for user in self._users if user.name is not None):
            raise Unauthorized(f"wrong password of user {name!r}")
        raise Unauthorized("unknown credentials")  # not even the name is told: it may be a token


def _user(where: str, table: Any) -> User:
    if not isinstance(table, dict):
        raise InvalidRequest(f"{where} is not a table")
    unknown = table.keys() - _FIELDS
    if unknown:
        raise InvalidRequest(f"{where} has {min(unknown)!r}, which is none of {sorted(_FIELDS)}")
    by_token = "token" in table
    if by_token == ("user" in table or "password" in table) or (
        not by_token and not {"user", "password"} <= table.keys()
    ):
        raise InvalidRequest(f"{where} needs either a token, or a user and a password")
    name = table.get("user")
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidRequest(f"{where}: user: {name!r} is not a name")
    agent = table.get("agent")
    kind = "token" if by_token else "password"
    return User(
        _secret(f"{where}: {kind}", table[kind]),
        name,
        None if agent is None else checks.agent_name(f"{where}: agent", agent),
    )


def _secret(what: str, secret: object) -> str:
    if not isinstance(secret, str) or not secret or not secret.isprintable():
        raise InvalidRequest(f"{what}: a secret is printable text, and not empty")
    if secret.startswith(_DIGEST):
        digest = secret.removeprefix(_DIGEST).lower()
        if len(digest) != 64 or not set(digest) <= set(string.hexdigits):
            raise InvalidRequest(f"{what}: after {_DIGEST} there must be 64 hexadecimal digits")
        return _DIGEST + digest
    return secret
