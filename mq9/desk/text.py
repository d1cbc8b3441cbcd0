"""How the desk writes times, sizes and bodies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from mq9.cli.output import count, span, when
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


def body(payload: bytes) -> str:
    """Return a body as text: JSON indented, bytes that are no text as their number."""
    try:
        parsed = orjson.loads(payload)
    except ValueError:
        try:
            return payload.decode()
        except UnicodeDecodeError:
            return f"({count(len(payload), 'byte')} that are no text)"
    return pretty(parsed)


FILTERS: dict[str, Callable[..., str]] = {
    "ago": ago,
    "clock": clock,
    "local": when,
    "pretty": pretty,
    "body": body,
    "span": span,
    "count": count,
    "visible": visible,
}
