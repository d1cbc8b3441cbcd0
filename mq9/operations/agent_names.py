"""Agents by their names: the right one, or those that are called nearly so."""

from __future__ import annotations

import difflib

from mq9.client.client import Mq9Client
from mq9.errors import InvalidRequest
from mq9.protocol import checks

_MOST_ASKED_FOR = 100  # a broker of ours puts who is called so first
_MOST_LOOKED_AT = 1_000
_MOST_NAMED = 3
_BEGINNING = 4  # characters


async def named(client: Mq9Client, name: str) -> str | None:
    """Return the mailbox of the agent of exactly that name; None when there is none."""
    wanted = _possible(name)
    if wanted is None:
        return None
    found = await client.agent_discover(text=wanted, limit=_MOST_ASKED_FOR)
    return next((one.match.mailbox for one in found if one.match.name == wanted), None)


async def nearest(client: Mq9Client, name: str) -> str:
    """Return a clause on where the agents with the most similar names are; empty for none.

    It gives their addresses, since it stands in errors: names are their words, of any kind.
    """
    listed = await client.agent_discover(limit=_MOST_LOOKED_AT)
    # In a large registry they may not be among the first, but begin alike.
    beginning = _possible(name[:_BEGINNING].strip())
    alike = await client.agent_discover(text=beginning, limit=_MOST_LOOKED_AT) if beginning else []
    places = {one.match.name: one.match.mailbox for one in (*listed, *alike)}
    close = difflib.get_close_matches(name[:128], places, n=_MOST_NAMED)
    where = dict.fromkeys(places[one] for one in close)
    return f"; agents called nearly so are at {', '.join(where)}" if where else ""


def _possible(name: str) -> str | None:
    """Return what an agent may be called; None for anything else."""
    try:
        checks.agent_name("name", name)
    except InvalidRequest:
        return None
    return name
