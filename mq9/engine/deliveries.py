"""What was in each FETCH reply, so that an ACK can mean a reply, and a message its latest one.

The delivery by which a consumer gets the lease of a message is found by the message. A later one,
by which it fetches what it holds, is found by the lease, or by the first once the lease is over:
an index of all would take a write to a page of its own for each message that is fetched again.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from mq9.engine import batches


def add(
    connection: sqlite3.Connection,
    mailbox_id: int,
    group_id: int,
    number: int,
    consumer: str,
    position: int,
    msg_ids: str,
) -> None:
    """Note what a reply gives out, before its leases are written.

    Args:
        connection: The database.
        mailbox_id: The mailbox.
        group_id: The group.
        number: The reply.
        consumer: Who gets it.
        position: The place of the first of these messages in it.
        msg_ids: The messages, in order, as a JSON array.
    """
    connection.execute(
        "INSERT INTO deliveries (mailbox, reply, msg_id, position, group_id, previous, count)"
        " SELECT ?,?,j.value,?+j.key,?,iif(l.holder=?,l.reply,NULL),coalesce(l.deliveries,0)+1"
        " FROM json_each(?) j LEFT JOIN leases l ON l.group_id=? AND l.msg_id=j.value",
        (mailbox_id, number, position, group_id, consumer, msg_ids, group_id),
    )


def keep_latest(
    connection: sqlite3.Connection, over: str, values: tuple[Any, ...], *, acked: bool = False
) -> None:
    """Note with the first delivery of leases which was the last, before these leases are over.

    Args:
        connection: The database.
        over: A condition on the leases, ``l``.
        values: What it is about.
        acked: Whether they are over since their messages are confirmed.
    """
    connection.execute(
        "UPDATE deliveries AS d SET latest=l.reply, count=l.deliveries, acked=? FROM leases l"  # noqa: S608  # constant text
        " WHERE l.reply<>l.granted"
        " AND d.mailbox=l.mailbox AND d.reply=l.granted AND d.msg_id=l.msg_id"
        f" AND {over}",
        (int(acked), *values),
    )


def undo(connection: sqlite3.Connection, mailbox_id: int, number: int) -> None:
    """Undo the deliveries of a reply, as if it had not been made."""
    batches.split_one(connection, mailbox_id, number)
    reply = {"mailbox": mailbox_id, "number": number}
    # What its consumer held before stays with it; the rest is free, and this delivery never was.
    connection.execute(
        "UPDATE leases AS l SET deliveries=deliveries-1,"
        " holder=iif(d.previous IS NULL, NULL, holder),"
        " begun=iif(d.previous IS NULL, 0, begun),"
        " until_ms=iif(d.previous IS NULL, NULL, until_ms),"
        " reply=coalesce((SELECT p.reply FROM deliveries p WHERE p.mailbox=d.mailbox"
        " AND p.reply=d.previous AND p.msg_id=d.msg_id), l.granted)"  # where that is forgotten
        " FROM deliveries d WHERE d.mailbox=:mailbox AND d.reply=:number"
        " AND l.group_id=d.group_id AND l.msg_id=d.msg_id AND l.reply=d.reply",
        reply,
    )
    # It may be undone after the next one was made, which then follows the one before.
    connection.execute(
        "UPDATE deliveries AS n SET previous=d.previous FROM deliveries d, leases l"
        " WHERE d.mailbox=:mailbox AND d.reply=:number AND d.previous IS NOT NULL"
        " AND l.group_id=d.group_id AND l.msg_id=d.msg_id"
        " AND n.mailbox=d.mailbox AND n.reply=l.reply AND n.msg_id=d.msg_id AND n.previous=d.reply",
        reply,
    )
    # Where the lease is over, the one that got it leads to the last of those that are left.
    connection.execute(
        "UPDATE deliveries AS f SET count=f.count-1, latest=(SELECT p.reply FROM deliveries p"
        " WHERE p.mailbox=d.mailbox AND p.reply=nullif(d.previous, f.reply) AND p.msg_id=d.msg_id)"
        " FROM deliveries d WHERE d.mailbox=:mailbox AND d.reply=:number AND d.previous IS NOT NULL"
        " AND f.group_id=d.group_id AND f.msg_id=d.msg_id AND f.previous IS NULL"
        " AND f.latest=d.reply",
        reply,
    )
    # By the one that got the lease the later ones are found.
    connection.execute(
        "DELETE FROM deliveries AS d WHERE mailbox=:mailbox AND reply=:number"
        " AND (previous IS NOT NULL OR latest IS NULL AND NOT EXISTS (SELECT 1 FROM leases l"
        " WHERE l.group_id=d.group_id AND l.msg_id=d.msg_id"
        " AND l.granted=d.reply AND l.reply<>d.reply))",
        reply,
    )
