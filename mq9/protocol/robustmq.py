"""Differences of RobustMQ from this protocol, and how its replies are recognized.

Its messages are plain text and carry a ``header`` field. Its DISCOVER answers with ``{name,
agent_info}``. Its groups are one offset over all priorities: there are no leases and no batches, an
ack confirms every smaller id, and a FETCH delivers again whatever lies behind the offset.
"""

from __future__ import annotations

from typing import Any

import orjson

from mq9.models import PRIORITIES, FetchResult, Match, Priority


def is_plain_text(item: dict[str, Any]) -> bool:
    """Tell whether the payload of a message stands in it as text."""
    return "encoding" not in item and "header" in item


def goes_by_offset(fetched: FetchResult) -> bool:
    """Tell whether a group's FETCH was answered by a broker without leases.

    Ours gives every group's reply that holds something a ``batch``.
    """
    return bool(fetched) and fetched.batch is None


def keeps_start(fetched: FetchResult) -> bool:
    """Tell from a group's reply whether its broker has kept where the group starts.

    Ours says ``batch`` or ``waiting``. RobustMQ keeps no position before the first ack, and goes by
    the ``deliver`` of every FETCH until then.
    """
    return fetched.batch is not None or fetched.waiting is not None


def decode_agent(item: dict[str, Any]) -> tuple[dict[str, Any], Match]:
    """Read an agent of a DISCOVER reply that has no ``matches``.

    It is reached at the mailbox in its registration, else at its name.
    """
    registered, name = item.get("agent_info", item), item.get("name") or ""
    if isinstance(registered, str):
        try:
            registered = orjson.loads(registered)
        except orjson.JSONDecodeError:
            registered = item
    if not isinstance(registered, dict):
        registered = item
    return registered, Match(name=name, mailbox=registered.get("mailbox") or name)


def last_known(fetched: FetchResult, num_msgs: int) -> int | None:
    """Return the id up to which a reply shows everything that is unacked; None for not at all.

    A reply with fewer messages than were asked for shows all. A full one stops somewhere in the
    order of delivery: what it leaves out follows its last message, and if that is a normal one, the
    rest are normal ones with larger ids. If it is a more pressing one, less pressing ones of any id
    may follow.
    """
    if not fetched:
        return None
    if len(fetched) < num_msgs:
        return max(message.msg_id for message in fetched)
    last = fetched[-1]
    places = [(PRIORITIES.index(one.priority), one.msg_id) for one in fetched]
    in_order = places == sorted(places)
    return last.msg_id if in_order and last.priority is Priority.NORMAL else None
