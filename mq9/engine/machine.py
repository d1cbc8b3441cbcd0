"""The state machine: entries in, outcomes out."""

from __future__ import annotations

import itertools
import logging
import sqlite3
from collections.abc import Callable, Sequence
from sqlite3 import Connection
from typing import Any, TypeVar

from mq9.engine import (
    access,
    ack,
    agents,
    commands,
    fetch,
    groups,
    mailboxes,
    messages,
    notices,
    reads,
    send,
    sent,
    state,
    status,
)
from mq9.engine.commands import Call, Entry, Limits, Outcome, SendBatch, SetLimits, Sweep
from mq9.engine.mailboxes import MailboxRow
from mq9.engine.state import Position
from mq9.errors import BrokerFailed, Mq9Error
from mq9.protocol import requests
from mq9.protocol.body import Request
from mq9.protocol.requests import Send

R = TypeVar("R")
logger = logging.getLogger("mq9.broker")
OVERSIZED = (
    "the broker's file holds a value that is larger than any that mq9 stores; nothing was done: "
    "drop the mailbox, or restore the file from a copy that you trust"
)
_MOST_HELD = 256  # mailboxes whose rows are kept for the next transaction
_DAY_MS = 86_400_000
_TOMBSTONES_MS = 7 * _DAY_MS

_Command = Callable[[Connection, Call[Any], int, Limits], Any]
_Unguarded = Callable[[Connection, MailboxRow, Call[Any], int, Limits], Any]
_Query = Callable[[Connection, Call[Any], int], Any]


class Applying:
    """Applies entries inside a transaction, which the caller rolls back if a method raises.

    ``finish`` writes the position. ``keeps_all`` says whether an entry that changes nothing uses up
    a number. A replicated log needs that.
    """

    def __init__(self, db: Connection, *, keeps_all: bool = True) -> None:
        self._db = db
        self._keeps_all = keeps_all
        self.position, self.limits = state.position_and_limits(db)
        self._begun = self.position
        self._held: dict[str, MailboxRow] = {}  # by address
        self._noted: dict[str, int] = {}  # instant of the last noted sign of life, by agent

    def apply(self, entry: Entry[Request[R]]) -> Outcome[R]:
        """Change the state by an entry, or return its refusal.

        It raises only errors that are not about the entry.
        """
        if entry.index <= self.position.applied:
            raise ValueError(
                f"index: {entry.index} does not come after {self.position.applied}, the last one"
            )
        before = self.position
        now = max(entry.now_ms, before.now_ms)
        self.position = Position(entry.index, now)
        changes = self._db.total_changes
        outcome = self._apply_unguarded(entry.call, now)
        if outcome is None:
            self._save()
            self._held.clear()  # any other command may change these rows
            self._db.execute("SAVEPOINT entry")
            changes = self._db.total_changes
            outcome = self._outcome(entry.call, now)
            if outcome.error is not None:
                self._db.execute("ROLLBACK TO entry")
                changes = self._db.total_changes  # it counts undone changes, too
            if isinstance(outcome.error, send.Full):
                outcome.error.remember(self._db)
            self._db.execute("RELEASE entry")
        if not self._keeps_all and self._db.total_changes == changes:
            self.position = before
        return outcome

    def apply_sends(
        self, index: int, now_ms: int, calls: Sequence[Call[SendBatch]]
    ) -> Sequence[Sequence[int | Mq9Error]]:
        """Apply SENDs as entries from an index on; return the msg_id or the error of each.

        If all fit, they are stored together. Otherwise they are applied one by one, with the same
        outcome.
        """
        if index <= self.position.applied:
            raise ValueError(f"index: {index} does not come after {self.position.applied}")
        now = max(now_ms, self.position.now_ms)
        stored = self._send_together(calls, now)
        if stored is not None:
            count = sum(len(answers) for answers in stored)
            if count:
                self.position = Position(index - 1 + count, now)
            return stored
        self.position = Position(index - 1, self.position.now_ms)
        return [
            [
                self._send_one(one.call(batch), self.position.applied + 1, now_ms)
                for one in batch.request.sends
            ]
            for batch in calls
        ]

    def apply_all(self, index: int, now_ms: int, calls: Sequence[Call[Any]]) -> list[Outcome[Any]]:
        """Apply calls as entries of one instant from an index on.

        Successive SENDs are stored together if possible. A batch has the effects of its SENDs as
        calls of their own, and an entry for each.
        """
        outcomes: list[Outcome[Any]] = []
        for are_plain, some in itertools.groupby(calls, _are_plain_sends):
            following = list(some)
            if not are_plain:
                outcomes += [
                    self.apply(Entry(index + place, now_ms, call))
                    for place, call in enumerate(following)
                ]
                index += len(following)
                continue
            batches = [*map(_as_batch, following)]
            sends = sum([len(batch.request.sends) for batch in batches])
            if sends <= 1:
                answers = [
                    [self._send_one(one.call(batch), index, now_ms) for one in batch.request.sends]
                    for batch in batches
                ]
            else:
                answers = [*map(list, self.apply_sends(index, now_ms, batches))]
            index += sends
            outcomes += map(self._outcome_of, following, answers)
        return outcomes

    def _outcome_of(self, call: Call[Any], answers: list[int | Mq9Error]) -> Outcome[Any]:
        now = self.position.now_ms
        if isinstance(call.request, SendBatch):
            return Outcome(answers, None, now)
        [answer] = answers
        return Outcome(answer, None, now) if isinstance(answer, int) else Outcome(None, answer, now)

    def _send_one(self, call: Call[Send], index: int, now_ms: int) -> int | Mq9Error:
        outcome = self.apply(Entry(index, now_ms, call))
        if outcome.error is not None:
            return outcome.error
        assert isinstance(outcome.value, int)  # noqa: S101  # a SEND without details
        return outcome.value

    def _send_together(
        self, calls: Sequence[Call[SendBatch]], now: int
    ) -> Sequence[Sequence[int]] | None:
        held = [(self._hold(call.address, now), call) for call in calls]
        batches = [(mailbox, call) for mailbox, call in held if mailbox is not None]
        if len(batches) != len(calls):
            return None
        changes = self._db.total_changes
        try:
            stored = send.send_together(self._db, batches, now, self.limits)
        except Exception as error:
            if not _concerns_request(error):
                raise
            if self._db.total_changes != changes:
                raise _internal_error(calls[0], error) from error
            return None  # then each SEND is applied alone
        if stored is None:
            return None
        for call in calls:
            for sender in dict.fromkeys(one.options.sender for one in call.request.sends):
                self._note_agent(call.actor.agent or sender, now)
        return stored

    def _apply_unguarded(self, call: Call[Request[R]], now: int) -> Outcome[R] | None:
        """Apply a command that needs no undo; return None for any other."""
        carry_out = UNGUARDED.get(type(call.request))
        if carry_out is None:
            return None
        changes = self._db.total_changes
        try:
            mailbox = self._hold(call.address, now)
            if mailbox is None:
                return None
            if call.request.is_private:
                access.refuse_other(mailbox, call)
                if access.adopts(mailbox, call):
                    return None
            value: R | None = carry_out(self._db, mailbox, call, now, self.limits)
            if value is None:
                return None
            self._note_life(call, now)
        except Exception as error:
            if not _concerns_request(error):
                raise
            if self._db.total_changes != changes:
                raise _internal_error(call, error) from error
            return Outcome(None, _refusal(call, error), now)
        return Outcome(value, None, now)

    def _hold(self, address: str, now: int) -> MailboxRow | None:
        """Return an existing mailbox, whose counters are written later."""
        mailbox = self._held.get(address)
        if mailbox is None:
            mailbox = mailboxes.look(self._db, address, now)
            if mailbox is None:
                return None
            mailbox.is_held = True
            self._held[address] = mailbox
        return None if mailbox.is_expired(now) else mailbox

    def _outcome(self, call: Call[Request[R]], now: int) -> Outcome[R]:
        try:
            return Outcome(self._carry_out(call, now), None, now)
        except Exception as error:
            if not _concerns_request(error):
                raise
            return Outcome(None, _refusal(call, error), now)

    def _carry_out(self, call: Call[Request[R]], now: int) -> R:
        request = call.request
        if request.is_private:
            access.refuse_others(self._db, call, now)
            access.adopt(self._db, call)
        value: R = COMMANDS[type(request)](self._db, call, now, self.limits)
        self._note_life(call, now)
        if isinstance(request, SetLimits):
            self.limits = request.limits
        return value

    def _note_life(self, call: Call[Request[R]], now: int) -> None:
        if call.request.shows_life:
            self._note_agent(call.agent, now)

    def _note_agent(self, agent: str | None, now: int) -> None:
        if agent is not None and self._noted.get(agent) != now:
            agents.note_seen(self._db, agent, now)
            self._noted[agent] = now  # a registration at that instant also sets seen_ms

    def _save(self) -> None:
        """Write the counters of held mailboxes."""
        for mailbox in self._held.values():
            mailbox.save_held(self._db)

    def finish(self) -> None:
        """Write the position and all counters that are not written yet.

        More entries may follow in another transaction if no other writer came in between.
        """
        self._save()
        if len(self._held) > _MOST_HELD:
            self._held.clear()
        if self.position != self._begun:
            state.move(self._db, self.position)
            self._begun = self.position
        self._noted.clear()


def _are_plain_sends(call: Call[Any]) -> bool:
    request = call.request
    return isinstance(request, SendBatch) or (
        isinstance(request, Send) and commands.is_plain(request)
    )


def _as_batch(call: Call[Any]) -> Call[SendBatch]:
    return call if isinstance(call.request, SendBatch) else SendBatch.of(call)


def _concerns_request(error: Exception) -> bool:
    """Tell whether an error is about the request, and not only about the storage."""
    is_of_storage = isinstance(
        error, (sqlite3.OperationalError, sqlite3.NotSupportedError, MemoryError)
    )
    is_damage = type(error) is sqlite3.DatabaseError
    return not is_of_storage and not is_damage


def _refusal(call: Call[Any], error: Exception) -> Mq9Error:
    if isinstance(error, sqlite3.DataError) and is_oversized(error):
        logger.error("%s met a value that is too large: %s", type(call.request).__name__, error)
        return BrokerFailed(OVERSIZED)
    return error if isinstance(error, Mq9Error) else _internal_error(call, error)


def is_oversized(error: sqlite3.Error) -> bool:
    """Tell whether a value in the database is too large to be read."""
    # Errors that Python's module raises by itself have no code.
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_TOOBIG


def _internal_error(call: Call[Any], error: Exception) -> BrokerFailed:
    """Log an internal error, which every replica has alike, and return the refusal."""
    logger.error("%s failed unexpectedly", type(call.request).__name__, exc_info=error)
    return BrokerFailed("the broker failed; nothing of this request was stored")


def apply(db: Connection, entry: Entry[Request[R]]) -> Outcome[R]:
    """Change the state by one entry; see ``Applying``."""
    applying = Applying(db)
    outcome = applying.apply(entry)
    applying.finish()
    return outcome


def answer(db: Connection, call: Call[Request[R]], now: int) -> Outcome[R] | None:
    """Answer a command that changes nothing and so needs no entry; return None for any other."""
    request = call.request
    look = UNCHANGING.get(type(request))
    if look is None:
        return None
    now = max(now, state.position(db).now_ms)
    if request.is_private and not access.is_settled(db, call, now):
        return None
    if request.shows_life and agents.is_sign_due(db, call.agent, now):
        return None
    found = look(db, call, now)
    return None if found is None else Outcome(found, None, now)


def read(db: Connection, call: Call[Request[R]], now: int) -> R:
    """Read the state; raise Outdated if something is due."""
    if call.request.is_private:
        access.refuse_others(db, call, now)
    outcome: R = QUERIES[type(call.request)](db, call, now)
    return outcome


def sweep(db: Connection, call: Call[Sweep], now: int, _limits: Limits) -> int:
    """Remove expired and forgotten rows; return how many were removed."""
    most = call.request.most
    swept = mailboxes.erase_expired(db, now, most)
    swept += mailboxes.erase_rest(db, most)
    swept += messages.advance_due(db, now, most)
    swept += agents.remove_expired(db, now, most)
    swept += send.forget_ids(db, now, most)
    swept += _forget_fates(db, now, most)
    swept += _forget_groups(db, now, most)
    return swept + fetch.forget_replies(db, now, most)


def _forget_fates(db: Connection, now: int, most: int) -> int:
    """Remove the tombstones of messages that were removed long ago."""
    old = db.execute(
        "SELECT mailbox, msg_id FROM tombstones WHERE removed_ms<=?"
        " ORDER BY removed_ms, mailbox, msg_id LIMIT ?",
        (now - _TOMBSTONES_MS, most),
    ).fetchall()
    db.executemany("DELETE FROM tombstones WHERE mailbox=? AND msg_id=?", old)
    return len(old)


def _forget_groups(db: Connection, now: int, most: int) -> int:
    unused = db.execute(
        "SELECT id FROM groups WHERE used_ms<=? ORDER BY used_ms, id LIMIT ?",
        (now - groups.FORGOTTEN_MS, most),
    ).fetchall()
    return sum(groups.erase(db, group_id) for (group_id,) in unused)


# The function of each command. Its arguments are the database, the call, the instant in
# milliseconds since the Unix epoch, and the limits. The transaction is undone if it raises.
COMMANDS: dict[type[Request[Any]], _Command] = {
    requests.CreateMailbox: mailboxes.create,
    requests.DropMailbox: mailboxes.drop,
    requests.GrantMailbox: access.grant,
    commands.Advance: messages.advance_now,
    requests.Delete: messages.delete,
    requests.Notify: notices.notify,
    requests.Send: send.send,
    requests.Cancel: send.cancel,
    requests.Fetch: fetch.fetch,
    requests.Ack: ack.ack,
    requests.Nack: ack.nack,
    requests.Extend: ack.extend,
    commands.Undo: ack.undo,
    requests.Release: ack.release,
    requests.Move: ack.move,
    commands.NoteRead: reads.note_read,
    requests.Register: agents.register,
    requests.Unregister: agents.unregister,
    requests.Report: agents.report,
    commands.Seen: agents.seen,
    commands.ClaimNames: agents.claim,
    commands.SetLimits: state.set_limits,
    commands.Sweep: sweep,
}

# The fast path of frequent commands, without a savepoint. If such a function raises, it has changed
# nothing. For a call that could fail after its first change, it changes nothing and returns None;
# the function in COMMANDS then takes over. It also gets the mailbox, whose counters are written
# together with those of others.
UNGUARDED: dict[type[Request[Any]], _Unguarded] = {
    requests.Send: send.send_new,
    requests.Fetch: fetch.fetch_new,
    requests.Ack: ack.ack_in_current,
    requests.Extend: ack.extend_in_current,
}

# The functions that answer a command that changes nothing. They return None if it may change
# something.
UNCHANGING: dict[type[Request[Any]], _Query] = {
    requests.Fetch: fetch.find_nothing,
    requests.Notify: notices.find_unchanged,
    commands.Seen: agents.find_seen,
}

# The functions that answer reads. The database is inside a transaction, so a read sees one state.
QUERIES: dict[type[Request[Any]], _Query] = {
    requests.ListMailboxes: mailboxes.list_own,
    requests.ListPublic: mailboxes.list_public,
    commands.CheckActor: access.check_actor,
    commands.CountSendLimits: access.count_send_limits,
    commands.Peek: reads.peek,
    requests.QueryUnread: reads.unread,
    requests.Query: reads.query,
    commands.IsRegistered: agents.is_registered,
    commands.AgentKeys: agents.keys,
    requests.Lookup: agents.lookup,
    requests.Status: status.status,
    requests.ListSent: sent.list_sent,
    commands.WhyEmpty: status.why_empty,
    commands.ListHeld: status.list_held,
    commands.CountUnread: status.count_unread,
    commands.Look: status.look,
    commands.CountAll: status.count_all,
}
