"""Proof that an agent's own tools made a mailbox, written where everybody may read it.

A description can be written by every client, so what makes it a proof is a code over the agent and
the address that takes a key. The key stays on this side: it is never sent to a broker.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

from mq9 import directories
from mq9.errors import InvalidRequest

logger = logging.getLogger("mq9.operations")

VARIABLE = "MQ9_AGENT_KEY"
FEWEST_CHARS = 32
_BYTES = 32
_CODE_CHARS = 32  # of hexadecimal: 128 bits


def code(key: bytes, *parts: str) -> str:
    """Return a code for some texts without NUL that nobody can guess who has not the key."""
    text = "\0".join(parts).encode("utf-8", "backslashreplace")
    return hmac.new(key, text, hashlib.sha256).hexdigest()[:_CODE_CHARS]


def proof(key: bytes, agent: str, mail_address: str) -> str:
    """Return the code that stands for a mailbox that the agent's tools made."""
    return code(key, agent, mail_address)


def proves(given: str, key: bytes, agent: str, mail_address: str) -> bool:
    """Tell whether a code is the one for that agent and mailbox."""
    return hmac.compare_digest(given.encode(), proof(key, agent, mail_address).encode())


@functools.cache
def agent_key() -> bytes:
    """Return the key of this user's agents, the same in all of the user's processes.

    It is what the environment variable ``MQ9_AGENT_KEY`` says, else what is in a file that only
    the user may read and that is made when it is missing. Where it cannot be made, the key lasts
    as long as this process.

    Raises:
        InvalidRequest: The variable has fewer than 32 characters, or the file is not such a key.
    """
    given = os.environ.get(VARIABLE)
    if given:
        if len(given) < FEWEST_CHARS:
            raise InvalidRequest(
                f"{VARIABLE}: {len(given)} characters are too few; give {FEWEST_CHARS} or more"
            )
        return given.encode()
    path = _file()
    try:
        return load_key(path)
    except OSError as error:
        logger.warning(
            "%s cannot be used (%s): agents know the mailboxes that they make only until this "
            "process ends; set %s to a secret",
            *(path, error.strerror, VARIABLE),
        )
        return secrets.token_bytes(_BYTES)


def _file() -> Path:
    from platformdirs import user_data_path  # noqa: PLC0415  # not before it is used

    return user_data_path("mq9", appauthor=False) / "agent.key"


def load_key(path: Path) -> bytes:
    """Return the key in a file; of several processes that find none, one makes it.

    Raises:
        OSError: It can be neither read nor made.
        InvalidRequest: It is not a key of ours.
    """
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
            os.link(made, path)  # whole or not at all, and never in the place of another
    finally:
        made.unlink()
