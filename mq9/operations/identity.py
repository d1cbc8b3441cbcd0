"""The agent of a set of tools: where it may read and send, and the mailboxes that it created.

A mailbox that its tools created has a proof in its description. Every client can write a
description, so the proof is a message authentication code of the agent and the address. Its key is
never sent to a broker.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import logging
import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from mq9 import address as addresses
from mq9 import directories
from mq9.errors import InvalidAddress, InvalidRequest
from mq9.protocol import checks
from mq9.protocol.address_patterns import AddressPatterns

DEFAULT_MAX_CHARS = 20_000
# Enough for the largest payload, were each byte of it written as an escape such as <U+200B>.
HIGHEST_MAX_CHARS = 10_000_000
DEFAULT_REGISTRATION_TTL_S = 30 * 86_400
DEFAULT_HOLD_S = 3_600
DEFAULT_STRANGER_CLAIMS = 3
MAX_WAIT_S = 3_600  # for mail, in one call


logger = logging.getLogger("mq9.operations")

VARIABLE = "MQ9_AGENT_KEY"
FEWEST_CHARS = 32
_BYTES = 32
_CODE_CHARS = 32  # of hexadecimal: 128 bits


def code(key: bytes, *parts: str) -> str:
    """Return a message authentication code for texts without NUL."""
    text = "\0".join(parts).encode("utf-8", "backslashreplace")
    return hmac.new(key, text, hashlib.sha256).hexdigest()[:_CODE_CHARS]


@functools.cache
def agent_key() -> bytes:
    """Return the key of this user's agents, the same in all of the user's processes.

    It comes from the environment variable ``MQ9_AGENT_KEY``, or else from a file that only the user
    may read, which is created if it is missing. If that fails, the key lasts as long as this
    process.
    """
    given = os.environ.get(VARIABLE)
    if given:
        if len(given) < FEWEST_CHARS:
            raise InvalidRequest(
                f"{VARIABLE}: {len(given)} characters are too few; give {FEWEST_CHARS} or more"
            )
        return given.encode()
    from platformdirs import user_data_path  # noqa: PLC0415  # not before it is used

    path = user_data_path("mq9", appauthor=False) / "agent.key"
    try:
        return load_key(path)
    except OSError as error:
        logger.warning(
            "%s cannot be used (%s): agents know the mailboxes that they make only until this "
            "process ends; set %s to a secret",
            *(path, error.strerror, VARIABLE),
        )
        return secrets.token_bytes(_BYTES)


def load_key(path: Path) -> bytes:
    """Return the key in a file; of several processes that find none, one makes it."""
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise InvalidRequest(f"{path} holds {len(key)} bytes, which is not a key; remove it")
    return key


def _make(path: Path) -> None:
    directories.make_private(path.parent)
    made = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(made, path)  # atomic, and never replaces another file
    finally:
        made.unlink()


_MOST_MADE = 1_000  # mailboxes made by an agent that are remembered as its own
_MOST_MET = 10_000  # agents
_BY_CALL = ", by "


def slug(name: str) -> str:
    """Return the default address of an agent's mailbox."""
    try:
        return addresses.slug(name)
    except InvalidRequest:
        raise InvalidRequest(
            f"mail_address: {addresses.shown(name)} has no letter a-z and no digit to make one of; "
            "give one"
        ) from None


def address_in(argument: str, value: str) -> str:
    """Return the address in an argument."""
    try:
        return addresses.parse(value)
    except InvalidAddress as error:
        if argument == "mail_address":
            raise  # it names the field already
        raise InvalidAddress(f"{argument}: {error}") from None


class Identity:
    """The agent of a set of tools.

    Its mailbox and group are the defaults of every operation, and it is the sender of its messages.
    It may read its own mailbox, the ones that it created, and those of ``allow_read``. It may send
    to these, and to those of ``allow_send``; None for all. The default mailbox is the slug of its
    name. Usable from several threads.
    """

    def __init__(
        self,
        name: str,
        allow_read: Sequence[str] = (),
        mail_address: str | None = None,
        allow_send: Sequence[str] | None = None,
    ) -> None:
        self.name: str = checks.agent_name("agent", name)
        self.mail_address = (
            slug(self.name) if mail_address is None else addresses.parse(mail_address)
        )
        self._allow_read = AddressPatterns("allow_read", allow_read)
        self._allow_send = None if allow_send is None else AddressPatterns("allow_send", allow_send)
        self._lock = threading.Lock()
        self._made: dict[str, None] = {}
        self._met: dict[str, None] = {}
        self.has_mailbox = False

    def made(self, mail_address: str) -> None:
        """Remember a mailbox that this agent made."""
        with self._lock:
            self._made[mail_address] = None
            while len(self._made) > _MOST_MADE:
                del self._made[next(iter(self._made))]

    def met(self, agents: Iterable[str]) -> None:
        """Remember agents that were shown to this one."""
        with self._lock:
            self._met |= dict.fromkeys(agents)
            while len(self._met) > _MOST_MET:
                del self._met[next(iter(self._met))]

    def has_met(self, agents: Iterable[str]) -> bool:
        """Return whether all of these agents were shown to this one lately, or are this one."""
        with self._lock:
            return all(one in self._met or one == self.name for one in agents)

    def description(self, mail_address: str, call: str | None = None) -> str:
        """Return the description, with proof and call, of a mailbox that the agent makes."""
        by = "" if call is None else f"{_BY_CALL}{call}"
        return f"{self.made_by}{code(agent_key(), self.name, mail_address)}{by}"

    def describes(self, desc: str, mail_address: str) -> bool:
        """Return whether a description proves that this agent created the mailbox."""
        made_by, rest = desc[: len(self.made_by)], desc[len(self.made_by) :]
        given, _, _ = rest.partition(_BY_CALL)
        proof = code(agent_key(), self.name, mail_address)
        return made_by == self.made_by and hmac.compare_digest(given.encode(), proof.encode())

    @property
    def made_by(self) -> str:
        """The beginning of the description of a mailbox that the agent makes."""
        return f"made by agent {self.name}, proof "

    @property
    def readable(self) -> str:
        """A sentence about the mailboxes that the agent may read."""
        others = "".join(f", {pattern}" for pattern in self._allow_read)
        return f"{self.name} may read its own mailbox {self.mail_address}{others} and what it made"

    @property
    def sendable(self) -> str:
        """A sentence about the mailboxes to which the agent may send."""
        if self._allow_send is None:
            return f"{self.name} may send to every mailbox"
        named = "".join(f"{pattern}, " for pattern in self._allow_send)
        return f"{self.name} may send to {named}and what it may read itself"

    @property
    def known_addresses(self) -> list[str]:
        """Its own mailbox, and those that it is known to have made, the latest first."""
        with self._lock:
            return list(dict.fromkeys([self.mail_address, *reversed(self._made)]))

    def may_send(self, mail_address: str) -> bool:
        """Return whether the agent may send to a mailbox, without a request to the broker."""
        return (
            self._allow_send is None
            or self._allow_send.match(mail_address)
            or self.may_read(mail_address)
        )

    def may_read(self, mail_address: str) -> bool:
        """Return whether the agent may read a mailbox; the broker knows who created it."""
        return mail_address == self.mail_address or self._allow_read.match(mail_address)
