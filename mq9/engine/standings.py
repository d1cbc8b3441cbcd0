"""States of the messages of many mailboxes, each in its decisive group."""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection
from typing import NamedTuple

import orjson

from mq9.engine import groups
from mq9.models import Promise

WAITING, FETCHED, MOVED, ACKED = STATES = ("waiting", "fetched", "moved", "acked")
_CURSOR = "(CASE w.lane WHEN 0 THEN g.critical WHEN 1 THEN g.urgent ELSE g.normal END)"
# The state of messages in the group named like their mailbox, else in the group that has come
# furthest. SQLite takes the other columns from the row with the max().
_STANDINGS = (
    "WITH wanted (mailbox, msg_id, lane, address) AS (SELECT json_extract(value, '$[0]'),"  # noqa: S608  # constant text
    " json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')"
    " FROM json_each(:wanted)), ones AS ("
    " SELECT w.mailbox, w.msg_id, g.name=w.address AS is_own, g.name, w.msg_id<g.start AS skipped,"
    " coalesce(l.until_ms, r.until_ms) AS until_ms, v.target, v.copy, v.moved,"
    " coalesce(l.deliveries, r.until_ms IS NOT NULL) AS deliveries,"
    " l.reason, l.promised_ms, l.done, l.promised_by,"
    " coalesce(l.holder, r.consumer) AS holder, coalesce(l.granted, r.number) AS granted, CASE"
    " WHEN l.until_ms>:now AND l.holder<>'' OR r.until_ms>:now THEN 1"
    " WHEN l.group_id IS NOT NULL OR r.until_ms IS NOT NULL"
    f" OR w.msg_id>={_CURSOR} OR w.msg_id<g.start THEN 0"
    " WHEN v.target IS NOT NULL THEN 2 ELSE 3 END AS state"
    " FROM wanted w CROSS JOIN groups g ON g.mailbox=w.mailbox AND g.used_ms>:unused"
    " LEFT JOIN leases l ON l.group_id=g.id AND l.msg_id=w.msg_id"
    " LEFT JOIN moves v ON v.group_id=g.id AND v.msg_id=w.msg_id"
    f" LEFT JOIN replies r ON r.group_id=g.id AND {groups.HOLDS_MESSAGE} AND l.group_id IS NULL)"
    " SELECT o.mailbox, o.msg_id, max(4*o.is_own+o.state), o.name, o.state, o.until_ms,"
    " o.deliveries, o.holder, o.target, o.copy, o.moved, o.skipped, o.granted,"
    " o.reason, o.promised_ms, o.done, o.promised_by"
    " FROM ones o GROUP BY o.mailbox, o.msg_id"
)


class Wanted(NamedTuple):
    """A visible message whose state is wanted."""

    mailbox: int
    msg_id: int
    lane: int
    address: str  # of the mailbox


class GroupStanding(NamedTuple):
    """The state of a message in the group named like its mailbox, or else in the furthest group."""

    group: str
    state: str
    until_ms: int | None = None
    deliveries: int = 0
    holder: str | None = None  # "" if it was given back
    target: str | None = None  # the mailbox that it was moved to
    copy: int | None = None
    moved: str | None = None  # JSON, the field ``moved`` of the copy
    is_skipped: bool = False
    granted: int | None = None  # the reply that gave the holder the lease
    reason: str | None = None  # of the last NACK
    promised_ms: int | None = None
    done: str | None = None
    promised_by: str | None = None

    @property
    def promise(self) -> Promise | None:
        """The promise of its holder."""
        return groups.promise(self.promised_ms, self.done, self.promised_by)


def standings(
    db: Connection, wanted: Iterable[Wanted], now: int
) -> dict[tuple[int, int], GroupStanding]:
    """Return the states of visible messages by mailbox and msg_id; none for one without a group."""
    found = db.execute(
        _STANDINGS,
        {
            "wanted": orjson.dumps([tuple(one) for one in wanted]).decode(),
            "now": now,
            "unused": now - groups.FORGOTTEN_MS,
        },
    )
    return {
        (mailbox, msg_id): GroupStanding(name, STATES[state], *rest)
        for mailbox, msg_id, _, name, state, *rest in found
    }
