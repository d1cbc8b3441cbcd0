"""``mq9 agents``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from mq9.cli.call import NOTHING_THERE, Call
from mq9.cli.output import Table, count, when
from mq9.models import AgentMatch


async def agents(
    call: Call,
    *,
    text: Annotated[
        str | None, typer.Argument(help="Words to look for; without them, all agents.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at the most.")] = 20,
    page: Annotated[int, typer.Option(min=1, help="Which page of that size.")] = 1,
) -> int:
    """Find registered agents, the best match first."""
    async with call.client() as client:
        found = await client.agent_discover(text=text, limit=limit, page=page)
    document = {
        "agents": [{**dataclasses.asdict(one.match), "card": dict(one)} for one in found],
        "page": page,
    }
    if not found:
        call.out.show(document)
        call.out.notice("no agent is registered" if text is None else "no registered agent matches")
        return NOTHING_THERE
    call.out.show(
        document,
        Table(("NAME", "MAILBOX", "LAST SEEN", "DESCRIPTION"), [_row(one) for one in found]),
    )
    if len(found) == limit:
        call.out.notice(f"these are {count(limit, 'agent')}; --page {page + 1} shows the next")
    return 0


def _row(agent: AgentMatch) -> tuple[str, str, str, str]:
    seen = agent.match.last_seen
    about = agent.get("description") or agent.get("payload") or ""
    return (
        agent.match.name,
        agent.match.mailbox,
        "" if seen is None else when(seen),
        about if isinstance(about, str) else str(about),
    )
