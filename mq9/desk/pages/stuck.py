"""Stuck: what needs somebody, the story of each, and what can be done about it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

from starlette.responses import Response

from mq9.cli import settling
from mq9.cli.message_history import story_of
from mq9.cli.output import count
from mq9.cli.redriving import Choice, Redriven, redrive
from mq9.cli.settling import Place
from mq9.client.answers import at_once
from mq9.desk.app import Visit, action, own_path, page
from mq9.desk.fields import item_of, mailbox, place_of, required, word
from mq9.desk.showing import link, registered
from mq9.errors import InvalidRequest, Mq9Error
from mq9.models import STUCK_KINDS, Message, StuckMessage

logger = logging.getLogger("mq9.desk")

_AT_ONCE = 50  # messages of a page, each with its story
_MOST = 500  # messages of one form
_MOST_TOLD = 5  # sentences of a notice


@dataclasses.dataclass(frozen=True, slots=True)
class What:
    """An action on messages.

    Attributes:
        label: The text of its button.
        asks: The question before it is done; ``{}`` stands for the messages.
        kinds: The kinds of stuck messages for which it is offered.
    """

    label: str
    asks: str
    kinds: tuple[str, ...]


WHATS = {
    "redrive": What("Redrive", "Move {} back to where it came from?", ("dead",)),
    "give_back": What(
        "Give back", "Take {} from its consumer, for the next one?", ("leased", "overdue")
    ),
    "stop": What("Stop the run", "Stop the run of {}, and tell the sender?", ("leased", "overdue")),
    "error": What("Answer with an error", "Answer {} with an error, and drop it?", STUCK_KINDS),
    "drop": What("Drop", "Drop {}? Nobody will be given it.", STUCK_KINDS),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Stuck:
    """A stuck message with its story, and how a form names it."""

    found: StuckMessage
    story: Sequence[str]
    item: str


async def stuck(visit: Visit) -> Response:
    """List what needs somebody, by kind; the URL has the filters."""
    asked, client = visit.request.query_params, visit.client
    kind, address = word(asked, "kind"), word(asked, "mailbox")
    page = await client.stuck(
        kind=kind, mail_address=address, after=word(asked, "after"), limit=_AT_ONCE
    )

    async def with_story(found: StuckMessage) -> Stuck:
        place = Place(found.mail_address, found.msg_id, found.group_name)
        try:
            _, story = await story_of(client, found.mail_address, found.msg_id)
        except Mq9Error as error:  # it may be gone by now
            story = [f"{error}."]
        return Stuck(found, story, item_of(place))

    return visit.render(
        "stuck.html",
        page=page,
        items=await at_once(with_story, page.items),
        registered=await registered(client, {one.sender for one in page.items}),
        kind=kind,
        mailbox=address,
        kinds=STUCK_KINDS,
        whats={name: one for name, one in WHATS.items() if kind is None or kind in one.kinds},
        next=page.more and link("/desk/stuck", kind=kind, mailbox=address, after=page.more),
        all_ticked=visit.with_params(tick="all"),
        back=link("/desk/stuck", kind=kind, mailbox=address),
        is_ticked=word(asked, "tick") == "all",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """An action and its messages, as a form names them.

    Attributes:
        what: The name of one of ``WHATS``.
        places: The messages; empty for all matching dead letters of a mailbox.
        dead: That mailbox.
        match: A text in the reason, sender or body of the messages.
        reason: The reason for the sender, for ``error``.
    """

    what: str
    places: tuple[Place, ...]
    dead: str | None = None
    match: str | None = None
    reason: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, str], items: Sequence[str]) -> Task:
        """Read a form; raise InvalidRequest if it is not valid."""
        what = required(given, "what")
        if what not in WHATS:
            raise InvalidRequest(f"what: {what!r} is none of {', '.join(WHATS)}")
        places = tuple(dict.fromkeys(map(place_of, items)))
        if len(places) > _MOST:
            raise InvalidRequest(f"item: {len(places)} messages, more than {_MOST}; choose fewer")
        is_all = what == "redrive" and not places
        if not places and not is_all:
            raise InvalidRequest("item: no message is chosen; tick at least one")
        dead = mailbox(given) if is_all else None
        reason = word(given, "reason")
        return cls(what, places, dead, word(given, "match") if is_all else None, reason)

    def fits(self, message: Message) -> bool:
        """Return whether a dead letter has the searched text."""
        if self.match is None:
            return True
        why = "" if message.moved is None else message.moved.reason or ""
        body = message.payload.decode("utf-8", "replace")
        wanted = self.match.casefold()
        return any(wanted in one.casefold() for one in (why, message.sender or "", body))


async def confirm(visit: Visit) -> Response:
    """Ask before something is done; this page changes nothing."""
    asked = visit.request.query_params
    task = Task.read(asked, asked.getlist("item"))
    matching = None
    if task.dead is not None:
        found = await visit.client.query(task.dead, limit=1_000)
        matching = sum(map(task.fits, found)), found.more
    return visit.render(
        "settle.html",
        task=task,
        what=WHATS[task.what],
        items=[item_of(one) for one in task.places],
        matching=matching,
        back=own_path(asked.get("back", "")) or "/desk/stuck",
    )


async def settle(visit: Visit) -> str:
    """Do the confirmed action; return its outcome."""
    task = Task.read(visit.form.fields, visit.form.texts("item"))
    if task.what == "redrive":
        return await _redrive(visit, task)
    if task.what == "error" and task.reason is None:
        raise InvalidRequest("reason: it is missing; say why, for the asker")
    told = []
    for place in task.places:
        outcome = await _settle_one(visit, task, place)
        _log(visit, task.what, str(place), outcome)
        told.append(outcome)
    return _notice(told)


def _log(visit: Visit, what: str, message: str, outcome: str) -> None:
    about = {"who": visit.person.name, "what": what, "about": message, "outcome": outcome[:500]}
    logger.info("settled", extra=about)


async def _settle_one(visit: Visit, task: Task, place: Place) -> str:
    client, name = visit.client, visit.person.name
    try:
        match task.what:
            case "give_back":
                return await settling.give_back(client, place, name=name)
            case "stop":
                return await settling.stop_run(client, place, name=name)
            case "error":
                return await settling.answer_with_error(
                    client, place, reason=task.reason or "", name=name
                )
            case _:
                return await settling.drop(client, place)
    except Mq9Error as error:
        return f"{place}: {error}."


async def _redrive(visit: Visit, task: Task) -> str:
    outcomes: list[Redriven] = []
    notices: list[str] = []
    ids: dict[str, set[int]] = {}
    for place in task.places:
        ids.setdefault(place.mail_address, set()).add(place.msg_id)
    choices = [(address, Choice(ids=chosen)) for address, chosen in ids.items()]
    if task.dead is not None:
        choices = [(task.dead, Choice(fits=task.fits))]
    for address, choice in choices:
        await redrive(visit.client, address, choice, report=outcomes.append, notice=notices.append)
    for one in outcomes:
        done = f"moved to {one.to} as message {one.moved_as}" if one.left is None else one.left
        _log(visit, "redrive", f"dead letter {one.msg_id}", done)
    moved = [one for one in outcomes if one.left is None]
    left = [f"Message {one.msg_id} stays: {one.left}." for one in outcomes if one.left]
    if not outcomes:
        return " ".join(["No message was there to redrive.", *notices])
    done = f"{count(len(moved), 'message')} redriven."
    return " ".join([done, _notice(left), *notices]).strip()


def _notice(told: Sequence[str]) -> str:
    """Return the first sentences, and the number of the others."""
    more = len(told) - _MOST_TOLD
    rest = [f"{more} more were dealt with likewise."] if more > 0 else []
    return " ".join([*told[:_MOST_TOLD], *rest])


ROUTES = (
    page("/stuck", stuck),
    page("/stuck/settle", confirm),
    action("/stuck/settle", settle),
)
