"""The text of a notice: counts, and the names of senders that the receiver knows.

It has no words of a message: hosts put it where models expect instructions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server.delivery.shapes import BEGINS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mq9 import Notice
    from mq9.models import Unread
    from mq9.operations.tool_names import ToolNames

_NAME_CHARS = 40


def said(notice: Notice, tools: ToolNames) -> str:
    """Return the notice of waiting mail for a model."""
    new, whole = notice.new, notice.unread.total
    kind = "message" if whole == new.total else "new message"
    more = "" if whole == new.total else f" {whole} wait in all."
    return (
        f"{BEGINS}{_count(new.total, kind)}{_priorities(new)} "
        f"{'waits' if new.total == 1 else 'wait'} in your mailbox{_senders(notice)}.{more}"
        f"{_advice(tools)}"
    )


def last_turn(limit: int) -> str:
    """Return the addition for the last automatic turn in a row."""
    return (
        f" This is automatic turn {limit} of {limit} in a row: further mail waits until your user "
        "writes."
    )


def unsure(tools: ToolNames) -> str:
    """Return the notice for a model that may have had it already."""
    return f"{BEGINS}mail may wait in your mailbox.{_advice(tools)}"


def row_ended(limit: int) -> str:
    """Return the notice for a person after the last automatic turn in a row."""
    return (
        f"{BEGINS}mail has begun {_count(limit, 'turn')} in a row, the limit (--wake-in-a-row). "
        "Further mail waits until you write something here."
    )


def hour_ended(limit: int) -> str:
    """Return the notice for a person when the hourly limit of turns is reached."""
    return (
        f"{BEGINS}mail has begun {_count(limit, 'turn')} within an hour, the limit "
        "(--wake-per-hour). Further mail waits until you write something here, or for some time."
    )


def undelivered(reason: str) -> str:
    """Return the notice for a person when the broker does not answer."""
    return f"{BEGINS}mail is not delivered here: {reason}. To look into it run mq9-mcp doctor"


def _count(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def _priorities(new: Unread) -> str:
    parts = [
        f"{count} {name}"
        for name, count in (("critical", new.critical), ("urgent", new.urgent))
        if count
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _senders(notice: Notice) -> str:
    """Return who the mail is from; a name that could be read as a sentence is only counted."""
    names = [one.name for one in notice.senders if _is_plain(one.name)]
    others = notice.others + len(notice.senders) - len(names)
    if others and names:
        names.append("another sender" if others == 1 else f"{others} other senders")
    return f", from {_listed(names)}" if names else ""


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _is_plain(name: str) -> bool:
    return len(name) <= _NAME_CHARS and all(one.isalnum() or one in "._-" for one in name)


def _advice(tools: ToolNames) -> str:
    return tools.text("[[ Read it with @fetch_messages.]]")
