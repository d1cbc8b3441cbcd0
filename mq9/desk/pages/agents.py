"""Agents: their skills, waiting mail and current work; who writes to whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from starlette.responses import Response

from mq9.client.answers import at_once
from mq9.client.client import Mq9Client
from mq9.desk.app import Visit, page
from mq9.desk.fields import number, word
from mq9.desk.picture import picture_of
from mq9.desk.showing import link, registered
from mq9.errors import Forbidden, MailboxNotFound
from mq9.models import AgentMatch, ListedMailbox, StuckMessage

_AT_ONCE = 50
_MOST_WORK = 1_000  # leased messages that are looked at
_MOST_ABOUT = 500  # characters about the skills of an agent


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """An agent as its entry shows it.

    Attributes:
        name: Its name.
        mailbox: Its mailbox.
        about: Its skills.
        skills: The names of its skills, of an AgentCard.
        last_seen: Its last activity, in Unix seconds.
        status: Its last report, as text.
        is_weak: Whether it may not fit the search.
        waiting: The mail in its mailbox; None if the person may not look.
        work: The messages that its consumers hold.
        dead: The number of its dead letters.
    """

    name: str
    mailbox: str
    about: str
    skills: tuple[str, ...]
    last_seen: int | None
    status: str | None
    is_weak: bool
    waiting: ListedMailbox | None
    work: tuple[StuckMessage, ...]
    dead: int


async def agents(visit: Visit) -> Response:
    """List registered agents, by name or by how well they fit; and who writes to whom."""
    asked, client = visit.request.query_params, visit.client
    text, page = word(asked, "q"), max(1, number(asked, "page") or 1)
    found = await client.agent_discover(semantic=text, limit=_AT_ONCE, page=page)
    work = await client.stuck(kind="leased", leased_longer_s=1, limit=_MOST_WORK)
    by_agent: dict[str, list[StuckMessage]] = {}
    for one in work.items:
        by_agent.setdefault((one.consumer or "").partition("/")[0], []).append(one)

    async def shown(agent: AgentMatch) -> Shown:
        match = agent.match
        held = by_agent.get(match.name, [])
        return Shown(
            name=match.name,
            mailbox=match.mailbox,
            about=_about(agent),
            skills=_skills(agent),
            last_seen=match.last_seen,
            status=None if match.status is None else str(match.status)[:_MOST_ABOUT],
            is_weak=match.weak,
            waiting=await _listed(client, match.mailbox),
            work=tuple(sorted(held, key=lambda one: one.since or 0)),
            dead=await _dead_letters(client, match.mailbox),
        )

    links = await client.links()
    known = await registered(client, {one.sender for one in links})
    mailbox_of = {one.match.name: one.match.mailbox for one in found}
    return visit.render(
        "agents.html",
        agents=await at_once(shown, found),
        q=text,
        mode=found.mode,
        links=links,
        registered=known,
        picture=picture_of(links, mailbox_of, known),
        next=link("/desk/agents", q=text, page=page + 1) if found.has_more else None,
        before=link("/desk/agents", q=text, page=page - 1) if page > 1 else None,
    )


def _about(agent: Mapping[str, object]) -> str:
    """Return the skills of an agent, in its own words."""
    about = agent.get("description") or agent.get("payload") or ""
    text = about if isinstance(about, str) else str(about)
    return text[:_MOST_ABOUT]


def _skills(agent: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of an AgentCard's skills. Other registered fields are not skills."""
    skills = agent.get("skills")
    if not isinstance(skills, Sequence) or isinstance(skills, str):
        return ()
    named = [one.get("name") for one in skills[:20] if isinstance(one, Mapping)]
    return tuple(name[:100] for name in named if isinstance(name, str))


async def _listed(client: Mq9Client, address: str) -> ListedMailbox | None:
    """Return the mail in a mailbox; None if it does not exist or the person may not look."""
    try:
        found = await client.mailbox_list_own(text=address, details=True, limit=20)
    except Forbidden:
        return None
    return next((one for one in found.mailboxes if one.mail_address == address), None)


async def _dead_letters(client: Mq9Client, address: str) -> int:
    """Count the dead letters where the workers of an agent put them."""
    try:
        return (await client.mailbox_status(f"{address}.dead")).stored
    except (Forbidden, MailboxNotFound):
        return 0


ROUTES = (page("/agents", agents),)
