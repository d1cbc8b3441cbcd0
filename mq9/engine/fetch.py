"""FETCH by a consumer group: picking, reading and leasing messages, and stored replies.

A row of leases whose lease has ended is free for every consumer. A reply of only new messages is
one row instead: a whole batch.

Each message has a row in the reply that delivers it first, so these rows grow with the number of
SENDs. Redeliveries have a budget, because a group can fetch them without limit.

The delivery that gives a consumer the lease of a message is found by the message. A later one, when
the consumer fetches the same message again, is found by the lease, or by the first delivery after
the lease. An index of all deliveries would cost one more page write per refetched message.
"""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from sqlite3 import Connection
from typing import Any

import orjson

from mq9.engine import agents, awaited, groups, mailboxes, messages
from mq9.engine.commands import Call, Limits, consumer_of
from mq9.engine.groups import Group
from mq9.engine.mailboxes import MailboxRow
from mq9.engine.messages import load_messages, load_new, most_reply_bytes, reply_bytes
from mq9.errors import LimitReached
from mq9.protocol.outcomes import Fetched, Stored
from mq9.protocol.requests import Fetch, Release

# A message to deliver: lane, msg_id, deliveries so far, whether the consumer holds it, deaths.
Candidate = tuple[int, int, int, bool, int]
# A client asks for a lost reply again within seconds. A finished reply is kept for much longer.
_REMEMBERED_MS = 3_600_000
_FORGOTTEN_AT_ONCE = 1_000  # replies that a FETCH removes to make room
_REPLY_BYTES = 256  # of a reply in the tables and their indexes, without its names
_MESSAGE_BYTES = 64  # at most, of each message in it


def fetch(db: Connection, call: Call[Fetch], now: int, limits: Limits) -> Fetched:
    """Lease messages to a consumer of a group."""
    request, consumer = call.request, consumer_of(call)
    assert request.group_name is not None  # noqa: S101  # else it is a Peek
    mailbox = messages.advance(db, call.address, now)
    mailboxes.refuse_another(mailbox, call.generation)
    group = groups.find(db, mailbox, request.group_name, now)
    repeated = False
    if group is not None:
        group.note_use(db, now)
    if group is not None and request.request_id is not None:
        number = latest_reply(db, group, call)
        repeated = number is not None
        if number is not None:
            held = _still_held(db, mailbox, group, number, call, now)
            if held is not None:
                return held
    reset = request.force_deliver and not repeated
    if group is None or reset:
        start = groups.start_position(db, mailbox, request, now)
        if group is None:
            group = groups.create(db, mailbox, request.group_name, start, now, limits)
        else:
            groups.reset(db, mailbox, group, start, now)
    _free_ended(db, group, now)
    own = consumer if request.redeliver_own else None
    if own is not None:
        groups.split_batches(db, *_held_by(group, own))
    known = _known(db, group, own, request.num_msgs)
    found = _pick(db, mailbox, group.cursors, known, request.num_msgs)
    return _deliver(db, mailbox, group, call, now, limits, found, has_reset=reset)


def fetch_new(
    db: Connection, mailbox: MailboxRow, call: Call[Fetch], now: int, limits: Limits
) -> Fetched | None:
    """Lease messages that are new to a group, if the call needs nothing else.

    Returns None in all other cases: the group must be created or reset, it has free messages, the
    consumer holds some, or something is due. It also returns None if the group may have received
    the new messages before a reset.
    """
    request = call.request
    assert request.group_name is not None  # noqa: S101  # else it is a Peek
    if request.force_deliver or not mailboxes.is_current(mailbox, now):
        return None
    mailboxes.refuse_another(mailbox, call.generation)
    group = groups.find(db, mailbox, request.group_name, now)
    if group is None or group.is_use_due(now) or group.reached > min(group.cursors):
        return None
    if request.request_id is not None and latest_reply(db, group, call) is not None:
        return None
    own = consumer_of(call) if request.redeliver_own else None
    if _has_others(db, group, own, now):
        return None
    found = _pick(db, mailbox, group.cursors, [], request.num_msgs)
    return _deliver(db, mailbox, group, call, now, limits, found, has_reset=False)


def _has_others(db: Connection, group: Group, own: str | None, now: int) -> bool:
    """Tell whether a group has messages to deliver that are not new, or leases to end."""
    (found,) = db.execute(
        "SELECT EXISTS (SELECT 1 FROM leases WHERE group_id=:group AND holder IS NULL)"
        " OR EXISTS (SELECT 1 FROM leases WHERE group_id=:group AND holder=:own)"
        " OR EXISTS (SELECT 1 FROM leases WHERE group_id=:group AND until_ms<=:now)"
        " OR EXISTS (SELECT 1 FROM replies"
        " WHERE group_id=:group AND consumer=:own AND until_ms IS NOT NULL)"
        " OR EXISTS (SELECT 1 FROM replies WHERE group_id=:group AND until_ms<=:now)",
        {"group": group.id, "own": own, "now": now},
    ).fetchone()
    return bool(found)


def _deliver(
    db: Connection,
    mailbox: MailboxRow,
    group: Group,
    call: Call[Fetch],
    now: int,
    limits: Limits,
    found: tuple[list[Candidate], bool],
    *,
    has_reset: bool,
) -> Fetched:
    """Lease the picked messages that fit into the reply."""
    request = call.request
    picked, more = found
    available = len(picked)
    if available < request.min_msgs:
        picked, more = [], False
    number = mailbox.next_reply
    delivered, cut = load(db, mailbox, picked, group.cursors, request, as_text=call.as_text)
    given = picked[: len(delivered)]
    if given or (has_reset and request.request_id is not None):
        cost = _cost_of(group, call, given)
        if cost:
            _charge(db, mailbox, group, call, cost, now, limits)
        _write_reply(db, mailbox, group, call, given, cost, now)
    if not given:
        return _nothing(db, mailbox, group, call, now, available)
    return Fetched(
        mail_address=mailbox.address,
        generation=mailbox.generation,
        messages=delivered,
        batch=groups.token(mailbox, number),
        lease_until=(now + request.lease_ms) / 1000,
        more=more or cut,
        position=group.start,
        refetched=any(held for *_, held, _ in given),
    )


def find_nothing(db: Connection, call: Call[Fetch], now: int) -> Fetched | None:
    """Answer a FETCH that finds nothing; return None if it may, or if the group changes."""
    request = call.request
    assert request.group_name is not None  # noqa: S101  # else it is a Peek
    mailbox = mailboxes.look(db, call.address, now)
    if mailbox is None or not mailboxes.is_current(mailbox, now) or request.force_deliver:
        return None
    group = groups.find(db, mailbox, request.group_name, now)
    if group is None or group.is_use_due(now) or call.generation not in {None, mailbox.generation}:
        return None
    if request.request_id is not None and latest_reply(db, group, call) is not None:
        return None
    own = consumer_of(call) if request.redeliver_own else None
    is_held = own is not None and groups.is_any_batch(db, *_held_by(group, own))
    if is_held or _has_ended(db, group, now):
        return None
    known = _known(db, group, own, request.min_msgs)
    picked, _ = _pick(db, mailbox, group.cursors, known, request.min_msgs)
    if len(picked) >= request.min_msgs:
        return None
    return _nothing(db, mailbox, group, call, now, len(picked))


def _nothing(
    db: Connection, mailbox: MailboxRow, group: Group, call: Call[Fetch], now: int, available: int
) -> Fetched:
    delivery_ms = next_delivery(db, mailbox, group)
    sign_ms = agents.next_sign(db, call.agent, now)
    return Fetched(
        mail_address=mailbox.address,
        generation=mailbox.generation,
        position=group.start,
        next_change_ms=sooner(delivery_ms, mailbox.expires_ms, sign_ms),
        next_delivery_ms=delivery_ms,
        available=available,
    )


def latest_reply(db: Connection, group: Group, call: Call[Fetch | Release]) -> int | None:
    """Return the last reply to a request of the same id; None if there is none."""
    row = db.execute(
        "SELECT max(number) FROM replies WHERE group_id=? AND request_id=? AND consumer=?",
        (group.id, call.request.request_id, consumer_of(call)),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _still_held(
    db: Connection, mailbox: MailboxRow, group: Group, number: int, call: Call[Fetch], now: int
) -> Fetched | None:
    """Return the messages of a repeated FETCH that its consumer still holds."""
    groups.split_batches(
        db, "r.mailbox=? AND r.number=? AND r.until_ms IS NOT NULL", (mailbox.id, number)
    )
    rows = db.execute(
        "SELECT l.msg_id, l.deliveries, l.deaths, l.until_ms FROM deliveries d JOIN leases l"
        " ON l.group_id=d.group_id AND l.msg_id=d.msg_id"
        " WHERE d.mailbox=? AND d.reply=? AND l.reply=d.reply AND l.holder=? AND l.until_ms>?"
        " ORDER BY d.position",
        (mailbox.id, number, consumer_of(call), now),
    ).fetchall()
    if not rows:
        return None
    this_reply = (mailbox.id, number)
    db.execute("UPDATE replies SET copies=copies+1 WHERE mailbox=? AND number=?", this_reply)
    (copy,) = db.execute(
        "SELECT copies FROM replies WHERE mailbox=? AND number=?", this_reply
    ).fetchone()
    counts = {msg_id: count for msg_id, count, *_ in rows}
    deaths = {msg_id: count for msg_id, _, count, _ in rows}
    stored = {
        one.msg_id: one._replace(deaths=deaths[one.msg_id])
        for one in load_messages(db, mailbox, counts)
    }
    others, _ = _pick(db, mailbox, group.cursors, _known(db, group, None, 1), 1)
    return Fetched(
        mail_address=mailbox.address,
        generation=mailbox.generation,
        messages=tuple(stored[msg_id] for msg_id in counts),
        batch=groups.token(mailbox, number),
        lease_until=min(until_ms for *_, until_ms in rows) / 1000,
        more=bool(others),
        position=group.start,
        copy=copy,
    )


def _free_ended(db: Connection, group: Group, now: int) -> None:
    groups.split_batches(db, *_ended(group, now))
    db.execute(
        "UPDATE leases SET holder=NULL, until_ms=NULL, deaths=deaths+begun, begun=0"
        " WHERE group_id=? AND until_ms<=?",
        (group.id, now),
    )


def _has_ended(db: Connection, group: Group, now: int) -> bool:
    row = db.execute(
        "SELECT 1 FROM leases WHERE group_id=? AND until_ms<=? LIMIT 1", (group.id, now)
    ).fetchone()
    return row is not None or groups.is_any_batch(db, *_ended(group, now))


def _ended(group: Group, now: int) -> tuple[str, tuple[Any, ...]]:
    """Return the condition for the whole batches of a group whose lease has ended."""
    return "r.group_id=? AND r.until_ms<=?", (group.id, now)


def _held_by(group: Group, consumer: str) -> tuple[str, tuple[Any, ...]]:
    """Return the condition for the whole batches that a consumer holds or held last."""
    return "r.group_id=? AND r.consumer=? AND r.until_ms IS NOT NULL", (group.id, consumer)


def _pick(
    db: Connection,
    mailbox: MailboxRow,
    cursors: Sequence[int],
    known: list[Candidate],
    num_msgs: int,
) -> tuple[list[Candidate], bool]:
    """Pick the messages to deliver, the most urgent and oldest first.

    Args:
        db: The database.
        mailbox: The mailbox.
        cursors: The first msg_id of each lane that is new to the group.
        known: Candidates that are not new to the group.
        num_msgs: The largest number to pick.

    Returns:
        The picked messages, and whether there are more.
    """
    most = num_msgs + 1
    picked: list[Candidate] = []
    for lane, cursor in enumerate(cursors):
        room = most - len(picked)
        new = _new(db, mailbox, lane, cursor, room)
        picked += [*sorted(one for one in known if one[0] == lane), *new][:room]
        if len(picked) == most:
            return picked[:-1], True
    return picked, False


def _known(db: Connection, group: Group, own: str | None, num_msgs: int) -> list[Candidate]:
    """Return messages that the group had before and that are free, or that ``own`` holds."""
    free = _leased_to(db, group, None, num_msgs + 1)
    return free if own is None else free + _leased_to(db, group, own, num_msgs + 1)


def _leased_to(db: Connection, group: Group, holder: str | None, most: int) -> list[Candidate]:
    # As one row, because other threads may run between two rows.
    (rows,) = db.execute(
        "SELECT json_group_array(json_array(priority, msg_id, deliveries, held, deaths)) FROM"
        " (SELECT priority, msg_id, deliveries, holder IS NOT NULL AS held, deaths FROM leases"
        " WHERE group_id=? AND holder IS ? ORDER BY priority, msg_id LIMIT ?)",
        (group.id, holder, most),
    ).fetchone()
    return list(map(tuple, orjson.loads(rows)))


def _new(db: Connection, mailbox: MailboxRow, lane: int, cursor: int, most: int) -> list[Candidate]:
    (msg_ids,) = db.execute(  # as one row, as above
        "SELECT json_group_array(msg_id) FROM (SELECT msg_id FROM messages"
        " WHERE mailbox=? AND priority=? AND msg_id>=? ORDER BY msg_id LIMIT ?)",
        (mailbox.id, lane, cursor, most),
    ).fetchone()
    return [(lane, msg_id, 0, False, 0) for msg_id in orjson.loads(msg_ids)]


def load(
    db: Connection,
    mailbox: MailboxRow,
    picked: list[Candidate],
    cursors: Sequence[int],
    wanted: Fetch,
    *,
    as_text: bool,
) -> tuple[tuple[Stored, ...], bool]:
    """Read the picked messages up to ``max_bytes``; return whether that cut them.

    They are sorted by lane and msg_id. From the cursor of a lane on they have no gaps.
    """
    messages: list[Stored] = []
    most, room = wanted.max_bytes, -1  # bytes left: a quick lower bound, then the exact number
    for message in _load_all(db, mailbox, picked, cursors):
        if most >= 0:
            most -= most_reply_bytes(message)
            if most >= 0:
                messages.append(message)
                continue
            room = wanted.max_bytes - sum(reply_bytes(one, as_text=as_text) for one in messages)
        room -= reply_bytes(message, as_text=as_text)
        if messages and room < 0:
            return tuple(messages), True
        messages.append(message)
    return tuple(messages), False


def _load_all(
    db: Connection, mailbox: MailboxRow, picked: list[Candidate], cursors: Sequence[int]
) -> Iterator[Stored]:
    """Yield the picked messages."""
    for lane, cursor in enumerate(cursors):
        of_lane = [one for one in picked if one[0] == lane]
        known = [one for one in of_lane if one[1] < cursor]
        if known:
            counts = {msg_id: before + 1 for _, msg_id, before, *_ in known}
            deaths = {msg_id: count for _, msg_id, *_, count in known if count}
            for message in load_messages(db, mailbox, counts):
                dead = deaths.get(message.msg_id)
                yield message._replace(deaths=dead) if dead else message
        if len(known) < len(of_lane):
            first, last = of_lane[len(known)], of_lane[-1]
            yield from load_new(db, mailbox, lane, first[1], last[1], first[2] + 1)


def _write_reply(
    db: Connection,
    mailbox: MailboxRow,
    group: Group,
    call: Call[Fetch],
    given: list[Candidate],
    cost: int,
    now: int,
) -> None:
    """Write a reply with its leases, and move the cursors of its group."""
    until_ms = now + call.request.lease_ms
    number, consumer = mailbox.next_reply, consumer_of(call)
    before = list(group.cursors)
    msg_ids = [one[1] for one in given]
    is_whole = bool(given) and all(one[1] >= before[one[0]] for one in given)
    for lane, msg_id, *_ in given:
        if msg_id >= group.cursors[lane]:
            group.cursors[lane] = msg_id + 1
    if group.cursors != before:
        group.save(db)
    db.execute(
        "INSERT INTO replies (mailbox, number, group_id, consumer, request_id, made_ms, cost,"
        " first_reply, critical, urgent, normal, ids, critical_from, urgent_from, normal_from,"
        " lowest, highest, until_ms, begun) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            *(mailbox.id, number, group.id, consumer, call.request.request_id, now, cost),
            *(group.first_reply, *group.cursors),
            *(
                (orjson.dumps(msg_ids).decode(), *before, min(msg_ids), max(msg_ids), until_ms)
                if is_whole
                else [None] * 7
            ),
            is_whole and call.request.begun,
        ),
    )
    mailbox.next_reply += 1
    mailbox.save(db)
    if not is_whole:
        _lease(db, mailbox, group, call, given, number, until_ms)


def _lease(
    db: Connection,
    mailbox: MailboxRow,
    group: Group,
    call: Call[Fetch],
    given: list[Candidate],
    number: int,
    until_ms: int,
) -> None:
    """Write the leases and deliveries of a reply that is not a whole batch."""
    consumer, begun = consumer_of(call), call.request.begun
    position = 0
    for lane, ones in itertools.groupby(given, key=operator.itemgetter(0)):
        is_held = {msg_id: held for _, msg_id, _, held, _ in ones}
        held = orjson.dumps([one for one in is_held if is_held[one]]).decode()
        others = orjson.dumps([one for one in is_held if not is_held[one]]).decode()
        # Each is a single SQLite call, during which other Python threads can run.
        _add_deliveries(
            db,
            mailbox.id,
            group.id,
            number,
            consumer,
            position,
            orjson.dumps(list(is_held)).decode(),
        )
        groups.keep_latest(
            db, "l.group_id=? AND l.msg_id IN (SELECT value FROM json_each(?))", (group.id, others)
        )
        # The holder is not set, so that its index needs no write.
        db.execute(
            "UPDATE leases SET until_ms=?, deliveries=deliveries+1, reply=?,"
            " begun=begun OR (? AND deaths=0)"
            " WHERE group_id=? AND msg_id IN (SELECT value FROM json_each(?))",
            (until_ms, number, begun, group.id, held),
        )
        db.execute(
            "INSERT INTO leases (group_id, msg_id, mailbox, priority, holder, until_ms, deliveries,"
            " reply, granted, begun) SELECT ?,value,?,?,?,?,1,?,?,? FROM json_each(?) WHERE true"
            " ON CONFLICT DO UPDATE SET holder=excluded.holder, until_ms=excluded.until_ms,"
            " deliveries=deliveries+1, reply=excluded.reply, granted=excluded.granted,"
            " begun=excluded.begun AND deaths=0",
            (group.id, mailbox.id, lane, consumer, until_ms, number, number, begun, others),
        )
        position += len(is_held)


def next_delivery(db: Connection, mailbox: MailboxRow, group: Group | None) -> int | None:
    """Return when a FETCH could find more if no client does anything."""
    due_ms = sooner(messages.next_due(db, mailbox), awaited.next_due(db, mailbox))
    until_ms = None
    if group is not None:
        (until_ms,) = db.execute(
            "SELECT min(until_ms) FROM leases WHERE group_id=? AND until_ms IS NOT NULL",
            (group.id,),
        ).fetchone()
        until_ms = sooner(until_ms, groups.first_batch_end(db, group.id))
    return sooner(due_ms, until_ms)


def sooner(*instants: int | None) -> int | None:
    """Return the earliest of some instants; None if all are None."""
    return min((one for one in instants if one is not None), default=None)


def _add_deliveries(
    db: Connection,
    mailbox_id: int,
    group_id: int,
    number: int,
    consumer: str,
    position: int,
    msg_ids: str,
) -> None:
    """Write the deliveries of a reply, before its leases are written."""
    db.execute(
        "INSERT INTO deliveries (mailbox, reply, msg_id, position, group_id, previous, count)"
        " SELECT ?,?,j.value,?+j.key,?,iif(l.holder=?,l.reply,NULL),coalesce(l.deliveries,0)+1"
        " FROM json_each(?) j LEFT JOIN leases l ON l.group_id=? AND l.msg_id=j.value",
        (mailbox_id, number, position, group_id, consumer, msg_ids, group_id),
    )


def _cost_of(
    group: Group, call: Call[Fetch], given: Sequence[tuple[int, int, int, bool, int]]
) -> int:
    """Return the stored bytes of a reply for messages that the group had before."""
    new_from = [max(cursor, group.reached) for cursor in group.cursors]
    again = sum(one[1] < new_from[one[0]] for one in given)
    size = again * _MESSAGE_BYTES
    if again == len(given):
        names = len(consumer_of(call).encode()) + len((call.request.request_id or "").encode())
        size += _REPLY_BYTES + 4 * names  # also in an index; long ones have pages of their own
    return size


def _charge(
    db: Connection,
    mailbox: MailboxRow,
    group: Group,
    call: Call[Fetch],
    size: int,
    now: int,
    limits: Limits,
) -> None:
    """Add the cost of a reply for redeliveries to the budget of its group."""
    if group.redelivered + size > limits.max_redelivered:
        finished = _finished(db, now, _FORGOTTEN_AT_ONCE, group)
        group.redelivered -= _remove_replies(db, finished)[group.id]
    if group.redelivered + size > limits.max_redelivered:
        raise LimitReached(
            f"max_redelivered: {group.redelivered} bytes for redeliveries to group "
            f"{call.request.group_name} of {mailbox.address}, and {size} for this one, are more "
            f"than {limits.max_redelivered}; ack what is held, or wait: they are kept for an hour"
        )
    group.redelivered += size
    group.save(db)


def forget_replies(db: Connection, now: int, most: int) -> int:
    """Remove replies that are no longer needed, the oldest first; return how many."""
    finished = _finished(db, now, most)
    _remove_replies(db, finished)
    return len(finished)


_Finished = tuple[int, int, int, int]  # a reply's mailbox, number, group and cost


def _finished(db: Connection, now: int, most: int, group: Group | None = None) -> list[_Finished]:
    """Return old replies whose messages are all done or were delivered again since."""
    of_group, order = "", "made_ms, mailbox, number"
    if group is not None:
        of_group, order = "group_id=? AND", "number"
    values = (() if group is None else (group.id,)) + (now - _REMEMBERED_MS, most)
    return db.execute(
        f"SELECT mailbox, number, group_id, cost FROM replies r WHERE {of_group} made_ms<=?"  # noqa: S608  # constant text
        f" AND NOT {groups.IS_LEASED}"
        " AND NOT EXISTS (SELECT 1 FROM deliveries d JOIN leases l"
        " ON l.group_id=d.group_id AND l.msg_id=d.msg_id AND d.reply IN (l.reply, l.granted)"
        " WHERE d.mailbox=r.mailbox AND d.reply=r.number)"
        # A later reply is found by this one.
        " AND NOT EXISTS (SELECT 1 FROM deliveries d JOIN replies n"
        " ON n.mailbox=d.mailbox AND n.number=d.latest"
        f" WHERE d.mailbox=r.mailbox AND d.reply=r.number) ORDER BY {order} LIMIT ?",
        values,
    ).fetchall()


def _remove_replies(db: Connection, finished: list[_Finished]) -> Counter[int]:
    """Remove replies; return their costs by group."""
    numbers = [(mailbox, number) for mailbox, number, *_ in finished]
    db.executemany("DELETE FROM deliveries WHERE mailbox=? AND reply=?", numbers)
    db.executemany("DELETE FROM replies WHERE mailbox=? AND number=?", numbers)
    freed: Counter[int] = Counter()
    for _, _, group_id, size in finished:
        freed[group_id] += size
    db.executemany(
        "UPDATE groups SET redelivered=redelivered-? WHERE id=?",
        [(size, group_id) for group_id, size in freed.items() if size],
    )
    return freed
