"""Filters of the desk's templates, for times, numbers and texts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from mq9.cli.output import count, quoted, span, when
from mq9.desk.showing import headline
from mq9.models import Promise
from mq9.operations.message_views import visible

_INDENTED = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS


def ago(instant: float, now: float) -> str:
    """Return how far a Unix time is from now."""
    distance = instant - now
    return f"in {span(distance)}" if distance >= 0 else f"{span(-distance)} ago"


def clock(instant: float) -> str:
    """Return a Unix time as a machine reads it, for the attribute of a ``time`` element."""
    try:
        return datetime.fromtimestamp(instant, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):  # somebody may have sent any number
        return ""


def pretty(value: Any) -> str:
    """Return a value as indented JSON, and a text as it is."""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, option=_INDENTED).decode()
    except orjson.JSONEncodeError:
        return "(nested too deeply to be shown)"


def promised(promise: Promise, now: float) -> str:
    """Return the promised time of an answer, and the progress so far."""
    by = "" if promise.by is None else f" by {visible(quoted(promise.by))}"
    done = "" if promise.done is None else f", done so far: {visible(promise.done)}"
    return f"promised{by} for {ago(promise.until, now)}{done}"


FILTERS: dict[str, Callable[..., str]] = {
    "ago": ago,
    "clock": clock,
    "local": when,
    "pretty": pretty,
    "span": span,
    "count": count,
    "visible": visible,
    "headline": headline,
    "promised": promised,
}
