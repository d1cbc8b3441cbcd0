"""Differences between RobustMQ and this protocol, and how to recognize its replies.

Its messages are plain text and have a ``header`` field. Its DISCOVER answers with ``{name,
agent_info}``. Its groups are one offset over all priorities, without leases and batches. An ack
confirms every smaller id, and a FETCH delivers everything behind the offset again.
"""

from __future__ import annotations

from typing import Any

import orjson

from mq9.models import PRIORITIES, FetchResult, Match, Priority


def is_plain_text(item: dict[str, Any]) -> bool:
    """Tell whether the payload of a message is plain text."""
    return "encoding" not in item and "header" in item


def goes_by_offset(fetched: FetchResult) -> bool:
    """Tell whether a broker without leases has answered a group's FETCH.

    This project's broker adds a ``batch`` to every group's reply with messages.
    """
    return bool(fetched) and fetched.batch is None


def keeps_start(fetched: FetchResult) -> bool:
    """Tell from a group's reply whether its broker has stored the start of the group.

    This project's broker answers with ``batch`` or ``waiting``. RobustMQ stores no position before
    the first ack. Until then it follows the ``deliver`` of every FETCH.
    """
    return fetched.batch is not None or fetched.waiting is not None


def decode_agent(item: dict[str, Any]) -> tuple[dict[str, Any], Match]:
    """Read an agent of a DISCOVER reply without ``matches``.

    Its address is the mailbox in its registration, else its name.
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
    """Return the id up to which a reply shows all unacked messages; None if there is no such id.

    A reply with fewer messages than requested shows all. A full reply stops somewhere in the order
    of delivery. If its last message is a normal one, the missing messages are normal ones with
    larger ids. Otherwise less urgent messages with any id may be missing.
    """
    if not fetched:
        return None
    if len(fetched) < num_msgs:
        return max(message.msg_id for message in fetched)
    last = fetched[-1]
    places = [(PRIORITIES.index(one.priority), one.msg_id) for one in fetched]
    in_order = places == sorted(places)
    return last.msg_id if in_order and last.priority is Priority.NORMAL else None
