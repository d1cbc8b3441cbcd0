"""``mq9 hash-password``: a password as it may be kept in a users file."""

from __future__ import annotations

import secrets
import sys

import typer

from mq9.cli.call import Call
from mq9.errors import InvalidRequest
from mq9.server import passwords

_MOST_CHARS = 1_024


async def hash_password(call: Call) -> int:
    """Hash a password for a users file of `mq9 serve`.

    It is asked for twice on a terminal, and else read from standard input, up to the end of its
    first line.
    """
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline(_MOST_CHARS + 2).rstrip("\r\n")
    if not password or len(password) > _MOST_CHARS or not password.isprintable():
        raise InvalidRequest(
            f"password: {len(password)} characters; give 1 to {_MOST_CHARS} printable ones"
        )
    hashed = str(passwords.hash_password(password, secrets.token_bytes(passwords.SALT_BYTES)))
    call.out.show({"password": hashed}, hashed)
    return 0
