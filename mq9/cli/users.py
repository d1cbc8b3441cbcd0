"""``mq9 users``: add, list and remove the users of a users file."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mq9.cli.agents import new_password
from mq9.cli.output import Table, count, quoted
from mq9.cli.program import NOTHING_THERE, CommandCall, new_app, register
from mq9.errors import InvalidRequest
from mq9.models import Role

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import AoT

_TOKEN_BYTES = 32
_FILE = typer.Argument(..., help="The users file.")

app = new_app(help="Manage the users of `mq9 serve --users`.")


async def add(
    call: CommandCall,
    *,
    file: Path = _FILE,
    agent: str | None = typer.Option(None, help="The agent that the user is."),
    user: str | None = typer.Option(
        None, help="User name for a password.  [default: a token, which is printed]"
    ),
    caller: str | None = typer.Option(
        None, help="Name in the subjects of a client that NATS authenticates."
    ),
    role: Role | None = typer.Option(None, help="Role.  [default: agent, or operator without one]"),
    allow_send: list[str] | None = typer.Option(
        None, metavar="PATTERN", help="Only mailboxes to which it may send. Repeatable."
    ),
) -> int:
    """Add a user, or a further token of an agent."""
    entry: dict[str, Any] = {}
    if agent is not None:
        entry["agent"] = agent
    if role is not None:
        entry["role"] = role.value
    token = None
    if user is not None and caller is not None:
        raise InvalidRequest("add: give one of --user and --caller")
    if caller is not None:
        entry["caller"] = caller
    elif user is None:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        entry["token"] = f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    else:
        entry |= {"user": user, "password": new_password()}
    if allow_send:
        entry["allow_send"] = allow_send

    def append(users: AoT) -> None:
        users.append(entry)

    _change(file, append)
    document = {"file": str(file), "agent": agent, "user": user, "caller": caller, "token": token}
    added = f"{'user' if caller is None else 'caller'} {quoted(user or caller or '')}"
    call.out.show(document, f"{added} added to {file}" if token is None else token)
    if token is not None:
        call.out.notice("this is the token; the file has only its digest")
    return 0


async def list_(call: CommandCall, *, file: Path = _FILE) -> int:
    """List the users, without their secrets."""
    found = [
        {
            "agent": one.get("agent"),
            "role": one.get("role"),
            "user": one.get("user"),
            "caller": one.get("caller"),
            "allow_send": one.get("allow_send"),
        }
        for one in _read(file).get("users", [])
    ]
    rows = [
        (
            str(one["agent"] or ""),
            str(one["role"] or ("agent" if one["agent"] else "operator")),
            _login(one),
            "everywhere" if one["allow_send"] is None else ", ".join(one["allow_send"]),
        )
        for one in found
    ]
    call.out.show({"users": found}, Table(("AGENT", "ROLE", "LOGIN", "MAY SEND TO"), rows))
    return 0


def _login(user: dict[str, Any]) -> str:
    """Return how a user logs in."""
    if user["caller"] is not None:
        return f"NATS, as {user['caller']}"
    return "token" if user["user"] is None else f"password of {user['user']}"


async def remove(
    call: CommandCall,
    *,
    file: Path = _FILE,
    agent: str | None = typer.Option(None, help="All users that are this agent."),
    user: str | None = typer.Option(None, help="The user of this name."),
    caller: str | None = typer.Option(None, help="The caller of this name."),
    token: str | None = typer.Option(None, help="The user of this token."),
) -> int:
    """Remove users: their connections end."""
    if (agent, user, caller, token).count(None) != 3:
        raise InvalidRequest("remove: give one of --agent, --user, --caller and --token")
    secret = {token, None if token is None else f"sha256:{_digest(token)}"} - {None}
    removed = 0

    def take_out(users: AoT) -> None:
        nonlocal removed
        for index in reversed(range(len(users))):
            one = users[index]
            is_meant = (
                (agent is not None and one.get("agent") == agent)
                or (user is not None and one.get("user") == user)
                or (caller is not None and one.get("caller") == caller)
                or one.get("token") in secret
            )
            if is_meant:
                del users[index]
                removed += 1

    _change(file, take_out)
    call.out.show({"file": str(file), "removed": removed}, f"{count(removed, 'user')} removed")
    return 0 if removed else NOTHING_THERE


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _read(file: Path) -> TOMLDocument:
    import tomlkit  # noqa: PLC0415  # loaded late, for a quick start

    try:
        return tomlkit.parse(file.read_text("utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except OSError as error:
        raise InvalidRequest(f"users: {file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise InvalidRequest(f"users: {file} is not TOML: {error}") from None


def _change(file: Path, change: Callable[[AoT], None]) -> None:
    """Change a users file in one step, if the result can be used; only its owner may read it."""
    import tomlkit  # noqa: PLC0415  # loaded late, for a quick start
    from tomlkit.items import AoT  # noqa: PLC0415  # loaded late, for a quick start

    from mq9.server.users import Users  # noqa: PLC0415  # loaded late, for a quick start

    document = _read(file)
    users = document.get("users")
    if users is None:
        users = tomlkit.aot()
        document.append("users", users)
    if not isinstance(users, AoT):
        raise InvalidRequest(f"users: {file} must hold [[users]] tables, and nothing else")
    change(users)
    if not users:
        raise InvalidRequest(
            f"users: {file} would have no users, and a server needs one; remove the file instead"
        )
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as written:
            written.write(tomlkit.dumps(document))
        try:
            Users.from_file(part)
        except InvalidRequest as error:
            raise InvalidRequest(str(error).replace(str(part), str(file))) from None
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


for _command in (add, list_, remove):
    register(app, _command.__name__.rstrip("_"), _command, needs_broker=False)
