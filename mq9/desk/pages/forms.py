"""What the pages of screens share: parameters of a URL, and values that every template needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from starlette.responses import Response

from mq9 import address as addresses
from mq9.cli.output import count, quoted, span, when
from mq9.cli.settling import Place
from mq9.client.client import Mq9Client
from mq9.desk.app import Visit
from mq9.desk.showing import link
from mq9.errors import InvalidRequest
from mq9.models import Promise
from mq9.operations.message_views import visible
from mq9.protocol import checks

_MOST_DIGITS = 15
_FIELDS = ("what", "mailbox", "match", "reason", "kind", "item", "to", "body", "id")
_NAMES_AT_ONCE = 100  # that LOOKUP takes


def screen(visit: Visit, template: str, **values: Any) -> Response:
    """Render a page of a screen with what the templates of all screens use."""
    return visit.render(
        template,
        **values,
        may_act=not visit.person.reads_only,
        item_of=item_of,
        link=link,
        promised_by=promised_by,
        told_at=when,
        told_count=count,
        told_span=span,
        visible=visible,
    )


def promised_by(promise: Promise, now: float) -> str:
    """Say until when somebody has promised an answer, and what is done so far."""
    distance = promise.until - now
    when_ = f"in {span(distance)}" if distance >= 0 else f"{span(-distance)} ago"
    by = "" if promise.by is None else f" by {visible(quoted(promise.by))}"
    done = "" if promise.done is None else f", done so far: {visible(promise.done)}"
    return f"promised{by} for {when_}{done}"


def texts(visit: Visit) -> dict[str, str]:
    """Return the fields that forms of the screens have; empty where this one lacks them."""
    return {name: visit.form.text(name, "") for name in _FIELDS}


def word(given: Mapping[str, str], name: str) -> str | None:
    """Return a parameter without the spaces around it; None where it is absent or empty."""
    return given.get(name, "").strip() or None


def required(given: Mapping[str, str], name: str) -> str:
    """Return a parameter; raise InvalidRequest where it is missing."""
    value = word(given, name)
    if value is None:
        raise InvalidRequest(f"{name}: it is missing")
    return value


def number(given: Mapping[str, str], name: str) -> int | None:
    """Return a parameter as a whole number from 0 on."""
    value = word(given, name)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS):
        raise InvalidRequest(f"{name}: {checks.shown(value)} is not a whole number from 0 on")
    return int(value)


def mailbox(given: Mapping[str, str], name: str = "mailbox") -> str:
    """Return a parameter as the address of a mailbox."""
    return addresses.parse(required(given, name))


def item_of(place: Place) -> str:
    """Write a message as a form names it: ``mailbox/number`` or ``mailbox/number/group``."""
    group = "" if place.group_name is None else f"/{place.group_name}"
    return f"{place.mail_address}/{place.msg_id}{group}"


def place_of(item: str) -> Place:
    """Read what ``item_of`` has written; raise InvalidRequest where it is no message."""
    address, _, rest = item.partition("/")
    digits, _, group = rest.partition("/")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS):
        raise InvalidRequest(f"item: {checks.shown(item)} is not a mailbox, a / and a number")
    return Place(
        mail_address=addresses.parse(address), msg_id=int(digits), group_name=group or None
    )


async def registered(client: Mq9Client, names: Collection[str | None]) -> frozenset[str]:
    """Return which of the names are those of registered agents."""
    asked = sorted(name for name in names if name is not None)
    known: set[str] = set()
    for start in range(0, len(asked), _NAMES_AT_ONCE):
        found = await client.agent_lookup(asked[start : start + _NAMES_AT_ONCE])
        known |= {one.name for one in found if one.registered}
    return frozenset(known)
