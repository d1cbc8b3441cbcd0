"""``mq9 agents`` and ``mq9 hash-password``."""

from __future__ import annotations

import dataclasses
import secrets
import sys

import typer

from mq9.cli.output import Table, count, distance
from mq9.cli.program import CommandCall
from mq9.errors import InvalidRequest
from mq9.models import AgentMatch
from mq9.server import passwords


async def agents(
    call: CommandCall,
    *,
    text: str | None = typer.Argument(None, help="Words to look for.  [default: all agents]"),
    limit: int = typer.Option(20, min=1, max=1_000, help="Most agents."),
    page: int = typer.Option(1, min=1, help="Page of that size."),
) -> int:
    """Find registered agents, best match first."""
    async with call.client() as client:
        found = await client.agent_discover(text=text, limit=limit, page=page)
        now = client.clock.now_ms() / 1000
    document = {
        "agents": [{**dataclasses.asdict(one.match), "card": dict(one)} for one in found],
        "page": page,
    }
    if not found:
        notice = "no agent is registered" if text is None else "no registered agent matches"
        return call.empty(document, notice)
    call.out.show(
        document,
        Table(("NAME", "MAILBOX", "LAST SEEN", "DESCRIPTION"), [_row(one, now) for one in found]),
    )
    if len(found) == limit:
        call.out.notice(f"these are {count(limit, 'agent')}; --page {page + 1} shows the next")
    return 0


def _row(agent: AgentMatch, now: float) -> tuple[str, str, str, str]:
    seen = agent.match.last_seen
    about = agent.get("description") or agent.get("payload") or ""
    return (
        agent.match.name,
        agent.match.mailbox,
        "" if seen is None else distance(seen, now),
        about if isinstance(about, str) else str(about),
    )


_MOST_CHARS = 1_024


async def hash_password(call: CommandCall) -> int:
    """Hash a password for a users file of `mq9 serve`.

    On a terminal you type it twice. Otherwise it is the first line of standard input.
    """
    hashed = new_password()
    call.out.show({"password": hashed}, hashed)
    return 0


def new_password() -> str:
    """Ask for a password, or read it from standard input, and return its hash."""
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline(_MOST_CHARS + 2).rstrip("\r\n")
    if not password or len(password) > _MOST_CHARS or not password.isprintable():
        raise InvalidRequest(
            f"password: {len(password)} characters; give 1 to {_MOST_CHARS} printable ones"
        )
    return str(passwords.hash_password(password, secrets.token_bytes(passwords.SALT_BYTES)))
