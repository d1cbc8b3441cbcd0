"""Users of a server, and the agents that they are.

A users file is TOML, one table per user::

    [[users]]
    agent = "Claude-Desktop"      # what the broker writes as `from`
    role = "agent"                # or "operator", the default without an agent, or "reader"
    token = "sha256:9f86d081…"    # or user = "…" and password = "scrypt:…"
    allow_send = ["lawyer", "team.*"]  # where it may send; omit it for everywhere

With ``caller = "…"`` in place of a token or password, NATS authenticates the user of a gateway.

A secret is plain text, or hashed: a password by scrypt, as ``mq9 hash-password`` does, and a token
as ``sha256:`` and its hexadecimal digest. The digest is safe for random tokens only.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import string
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mq9.errors import InvalidRequest, Unauthorized
from mq9.models import Identity, Role
from mq9.protocol import checks, subjects
from mq9.protocol.address_patterns import AddressPatterns
from mq9.protocol.reserved import Reserved
from mq9.server import passwords
from mq9.server.passwords import Guesses

logger = logging.getLogger("mq9.broker")

_DIGEST = "sha256:"
_FIELDS = {"agent", "role", "user", "password", "token", "caller", "allow_send"}
_LOGINS = ({"token"}, {"user", "password"}, {"caller"})


@dataclass(frozen=True, slots=True)
class Admitted:
    """A user who was admitted."""

    agent: str | None = None  # None for one without a name
    role: Role | None = None  # None: no authentication
    user: User | None = field(default=None, compare=False, repr=False)  # of a users file


class Guard(Protocol):
    """Decides who may connect."""

    @property
    def is_open(self) -> bool:
        """Whether anybody may connect."""

    @property
    def reserved(self) -> Reserved | None:
        """Names and addresses of the configured agents; None if no agents are configured."""

    @property
    def has_callers(self) -> bool:
        """Whether NATS authenticates users of a gateway."""

    def caller(self, name: str) -> Identity | None:
        """Return the identity of a caller whom NATS has authenticated; None if it is unknown."""

    async def admit(self, credentials: Mapping[str, Any], address: str = "") -> Admitted:
        """Return who a connection is; raises Unauthorized for those who may not connect."""

    def knows(self, admitted: Admitted) -> bool:
        """Return whether a user who was admitted is still configured, unchanged."""


class OpenGuard:
    """Admits all clients as anonymous."""

    is_open = True
    reserved = None
    has_callers = False

    def caller(self, _name: str) -> Identity | None:
        """Return None: no caller is configured."""
        return None

    async def admit(self, _credentials: Mapping[str, Any], _address: str = "") -> Admitted:
        """Let them in."""
        return Admitted()

    def knows(self, _admitted: Admitted) -> bool:
        """Return true: there are no users."""
        return True


@dataclass(frozen=True, slots=True)
class User:
    """One who may connect by token, or by name and password, or through NATS as a caller."""

    secret: str  # the token, or its digest after ``sha256:``; the password, or its hash; or ""
    name: str | None = None  # None for a token
    agent: str | None = None  # None for one whose messages have no verified sender
    allow_send: tuple[str, ...] | None = None  # where the agent may send; None for everywhere
    role: Role | None = None  # None: an agent, or an operator where it is none
    caller: str | None = None  # its name in the subjects of its requests

    @property
    def has_token(self) -> bool:
        """Whether it connects by a token."""
        return self.name is None and self.caller is None

    @property
    def admitted(self) -> Admitted:
        """The identity of this user's connections."""
        usual = Role.OPERATOR if self.agent is None else Role.AGENT
        return Admitted(self.agent, self.role or usual, self)

    @property
    def digest(self) -> bytes:
        """The digest of a secret that is not hashed by scrypt."""
        if self.has_token and self.secret.startswith(_DIGEST):
            return bytes.fromhex(self.secret.removeprefix(_DIGEST))
        return _digest(self.secret)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


class _Password:
    """The password of a user, as the users file has it."""

    def __init__(self, user: User) -> None:
        self.admitted = user.admitted
        is_hash = user.secret.startswith(passwords.PREFIX)
        self.hash = passwords.parse("password", user.secret) if is_hash else None
        self._digest = user.digest
        self._key = secrets.token_bytes(32)
        self._known: bytes | None = None  # the password that was right before, under the key

    def is_known(self, password: str) -> bool:
        """Tell, without the work of a hash, whether a password is known to be right.

        The first success with a hash is remembered until the process ends, so that a client that
        comes again need not wait behind others that guess.
        """
        if self.hash is None:
            return hmac.compare_digest(_digest(password), self._digest)
        return self._known is not None and hmac.compare_digest(
            self._under_key(password), self._known
        )

    def remember(self, password: str) -> None:
        """Remember that a password is right."""
        self._known = self._under_key(password)

    def _under_key(self, password: str) -> bytes:
        return hmac.new(self._key, _digest(password), hashlib.sha256).digest()


class Users:
    """Admits the users of a list."""

    is_open = False

    def __init__(self, users: Sequence[User]) -> None:
        self._users = frozenset(users)
        self._tokens = [user for user in users if user.has_token]
        self._callers = {user.caller: user.admitted for user in users if user.caller is not None}
        self._passwords = {user.name: _Password(user) for user in users if user.name is not None}
        self._guesses = Guesses()
        # Compared with every wrong password that has no hash of its own, so that the time tells
        # neither unknown names nor users without a hash.
        self._decoy = next((one.hash for one in self._passwords.values() if one.hash), None)
        self._allow_send = _allow_lists(users)
        has_roles = any(user.role is not None or user.agent is not None for user in users)
        self.reserved = Reserved(self._allow_send) if has_roles else None

    @classmethod
    def with_token(cls, token: str) -> Users:
        """Admit clients with one token, as anonymous."""
        return cls([User(_secret("auth-token", token))])

    @classmethod
    def from_file(cls, path: Path) -> Users:
        """Read a users file."""
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
        callers = [user.caller for user in users if user.caller is not None]
        if len(set(callers)) < len(callers):
            twice = next(name for name in callers if callers.count(name) > 1)
            raise InvalidRequest(f"users: {path} has the caller {twice!r} twice")
        tokens = Counter(user.digest for user in users if user.has_token)
        for n, user in enumerate(users, 1):
            if user.has_token and tokens[user.digest] > 1:
                raise InvalidRequest(f"users: user {n} in {path} has the token of another")
        if others_may_read:
            logger.warning("%s holds secrets and others may read it; chmod 600 it", path)
        try:
            return cls(users)
        except InvalidRequest as error:
            raise InvalidRequest(f"users: {path}: {error}") from None

    def become(self, other: Users) -> None:
        """Take over the users of another instance.

        Passwords of unchanged users stay known, as do addresses from which users have logged in.
        """
        for name, password in other._passwords.items():  # of this class
            former = self._passwords.get(name)
            if former is not None and former.admitted.user == password.admitted.user:
                other._passwords[name] = former  # of this class
        self._users, self._tokens = other._users, other._tokens  # of this class
        self._callers = other._callers  # of this class
        self._passwords, self._decoy = other._passwords, other._decoy
        self._allow_send, self.reserved = other._allow_send, other.reserved

    def has_the_users_of(self, other: Users) -> bool:
        """Return whether another instance has the same users."""
        return self._users == other._users

    def knows(self, admitted: Admitted) -> bool:
        """Return whether a user who was admitted is still configured, unchanged."""
        return admitted.user in self._users

    @property
    def has_callers(self) -> bool:
        """Whether NATS authenticates users of a gateway."""
        return bool(self._callers)

    def caller(self, name: str) -> Identity | None:
        """Return the identity of a caller whom NATS has authenticated; None if it is unknown."""
        admitted = self._callers.get(name)
        return None if admitted is None else Identity(admitted.agent, admitted.role)

    @property
    def agents_with_tokens(self) -> dict[str, tuple[str, ...] | None]:
        """The agents that have a token, with the mailboxes that each may send to; None for all.

        Operators and readers are none, with a name or without one.
        """
        known = (user.admitted for user in self._tokens)
        return {
            one.agent: self._allow_send[one.agent]
            for one in known
            if one.agent is not None and one.role is Role.AGENT
        }

    async def admit(self, credentials: Mapping[str, Any], address: str = "") -> Admitted:
        """Return who a connection is; raises Unauthorized for those who may not connect."""
        admitted = await self._user_of(credentials, address)
        self._guesses.trust(address)
        return admitted

    async def _user_of(self, credentials: Mapping[str, Any], address: str) -> Admitted:
        name, password = credentials.get("user") or None, credentials.get("pass") or None
        # Clients send a token alone as auth_token, and some as a user name without a password.
        token = credentials.get("auth_token") or (None if password else name)
        user = self._with_token(token) if isinstance(token, str) else None
        if user is not None:
            return user.admitted
        known = self._passwords.get(name) if isinstance(name, str) else None
        if isinstance(password, str):
            if known is not None and known.is_known(password):
                return known.admitted
            own = known.hash if known is not None else None
            compared = own or self._decoy
            is_right = compared is not None and await self._guesses.is_right(
                str(name), password, compared, address
            )
            if is_right and known is not None and own is not None:
                known.remember(password)
                return known.admitted
        if known is not None:
            raise Unauthorized(f"wrong password of user {name!r}")
        raise Unauthorized("unknown credentials")  # without the name, which may be a token

    def _with_token(self, token: str) -> User | None:
        """Return the user of a token, in constant time."""
        given = _digest(token)
        found = None
        for user in self._tokens:
            if hmac.compare_digest(given, user.digest):
                found = user
        return found


def _allow_lists(users: Sequence[User]) -> dict[str, tuple[str, ...] | None]:
    """Return where each agent may send; None for everywhere."""
    lists: dict[str, tuple[str, ...] | None] = {}
    roles: dict[str, Role | None] = {}
    for user in users:
        if user.agent is None:
            continue
        role = user.admitted.role
        if roles.setdefault(user.agent, role) is not role:
            raise InvalidRequest(
                f"role: two users are the agent {user.agent!r}, and their roles differ; give both "
                "the same role, or one another name"
            )
        if lists.setdefault(user.agent, user.allow_send) != user.allow_send:
            raise InvalidRequest(
                f"allow_send: two users are the agent {user.agent!r}, and their lists differ; "
                "give both the same"
            )
    return lists


def _user(where: str, table: Any) -> User:
    if not isinstance(table, dict):
        raise InvalidRequest(f"{where} is not a table")
    unknown = table.keys() - _FIELDS
    if unknown:
        raise InvalidRequest(f"{where} has {min(unknown)!r}, which is none of {sorted(_FIELDS)}")
    if table.keys() & set().union(*_LOGINS) not in _LOGINS:
        raise InvalidRequest(
            f"{where} needs one of these: a token, or a user and a password, or a caller"
        )
    caller = table.get("caller")
    name = table.get("user")
    if name is not None and (not isinstance(name, str) or not name):
        raise InvalidRequest(f"{where}: user: {name!r} is not a name")
    agent = table.get("agent")
    role = _role(where, table, agent)
    allowed = table.get("allow_send")
    if allowed is not None and agent is None:
        raise InvalidRequest(
            f"{where}: allow_send: it limits where an agent may send; give the agent as well"
        )
    if allowed is not None and role in {Role.OPERATOR, Role.READER}:
        raise InvalidRequest(
            f"{where}: allow_send: it limits where an agent may send, and the role is {role}; "
            "leave one out"
        )
    if allowed is not None and not isinstance(allowed, list):
        raise InvalidRequest(f"{where}: allow_send: {allowed!r} is not a list of address patterns")
    if caller is not None:
        secret = ""
        subjects.check_caller(f"{where}: caller", caller)
    else:
        kind = "token" if name is None else "password"
        secret = _secret(f"{where}: {kind}", table[kind], is_token=name is None)
    return User(
        secret,
        name,
        None if agent is None else checks.agent_name(f"{where}: agent", agent),
        None if allowed is None else tuple(AddressPatterns(f"{where}: allow_send", allowed)),
        role,
        caller,
    )


def _role(where: str, table: Mapping[str, Any], agent: object) -> Role | None:
    """Return the role that a user's table states; None where it states none."""
    if "role" not in table:
        return None
    role = checks.member(Role)(f"{where}: role", table["role"])
    if role is Role.AGENT and agent is None:
        raise InvalidRequest(f"{where}: role: an agent has a name; give it as agent")
    return role


def _secret(what: str, secret: object, *, is_token: bool = True) -> str:
    if not isinstance(secret, str) or not secret or not secret.isprintable():
        raise InvalidRequest(f"{what}: a secret is printable text, and not empty")
    if is_token:
        return _token(what, secret)
    if secret.startswith(_DIGEST):
        raise InvalidRequest(
            f"{what}: {_DIGEST} is for tokens, since a password can be guessed from it; write what "
            "`mq9 hash-password` prints"
        )
    if secret.startswith(passwords.PREFIX):
        passwords.parse(what, secret)
    return secret


def _token(what: str, secret: str) -> str:
    if secret.startswith(passwords.PREFIX):
        raise InvalidRequest(f"{what}: {passwords.PREFIX} is for passwords; tokens take {_DIGEST}")
    if secret.startswith(_DIGEST):
        digest = secret.removeprefix(_DIGEST).lower()
        if len(digest) != 64 or not set(digest) <= set(string.hexdigits):
            raise InvalidRequest(f"{what}: after {_DIGEST} there must be 64 hexadecimal digits")
        return _DIGEST + digest
    return secret
