"""The row of a mailbox."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from mq9.engine.commands import Actor
from mq9.models import SendPolicy

COLUMNS = (
    "id, address, generation, description, public, type, creator, readers, viewers, senders, "
    "send_policy, ttl_s, expires_ms, changes_ms, next_msg_id, next_reply, "
    "visible_ms, messages, delayed, bytes, evict_from, ids, "
    "expired, replaced, deleted, evicted"
)


@dataclass(slots=True)
class Mailbox:
    """A row of mailboxes; ``save`` writes the counters back.

    The last two fields are no columns: whether the counters are written later, with those of other
    commands, and whether there is anything to be written then.
    """

    id: int
    address: str
    generation: str
    description: str
    public: int
    type: str
    creator: str | None
    readers: str
    viewers: str
    senders: str
    send_policy: str
    ttl_s: int
    expires_ms: int | None
    changes_ms: int | None
    next_msg_id: int
    next_reply: int
    visible_ms: int
    messages: int
    delayed: int
    bytes: int
    evict_from: int
    ids: int
    expired: int
    replaced: int
    deleted: int
    evicted: int
    is_held: bool = False
    is_unsaved: bool = False

    def expect_change(self, instant: int | None) -> None:
        """Remember that something falls due or expires at ``instant``."""
        if instant is not None and (self.changes_ms is None or instant < self.changes_ms):
            self.changes_ms = instant

    def is_expired(self, now: int) -> bool:
        """Tell whether its TTL has passed."""
        return self.expires_ms is not None and self.expires_ms <= now

    def count_removed(self, reason: str, count: int) -> None:
        """Count messages that were removed: ``expired``, ``replaced``, ``deleted``, ``evicted``."""
        setattr(self, reason, getattr(self, reason) + count)

    def save(self, connection: sqlite3.Connection) -> None:
        """Write the counters, or leave them to ``save_held``."""
        if self.is_held:
            self.is_unsaved = True
        else:
            self._write(connection)

    def save_held(self, connection: sqlite3.Connection) -> None:
        """Write the counters that were left to be written."""
        if self.is_unsaved:
            self.is_unsaved = False
            self._write(connection)

    def _write(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE mailboxes SET changes_ms=?, next_msg_id=?, next_reply=?, visible_ms=?, "
            "messages=?, delayed=?, bytes=?, evict_from=?, ids=?, expired=?, replaced=?, "
            "deleted=?, evicted=? WHERE id=?",
            (
                self.changes_ms,
                self.next_msg_id,
                self.next_reply,
                self.visible_ms,
                self.messages,
                self.delayed,
                self.bytes,
                self.evict_from,
                self.ids,
                self.expired,
                self.replaced,
                self.deleted,
                self.evicted,
                self.id,
            ),
        )

    def may_evict(self, connection: sqlite3.Connection, msg_id: int) -> None:
        """Note that a message, and for all that is known later ones too, may make room."""
        if msg_id < self.evict_from:
            self.evict_from = msg_id
            connection.execute("UPDATE mailboxes SET evict_from=? WHERE id=?", (msg_id, self.id))

    def may_take(self, actor: Actor) -> bool:
        """Tell whether somebody may use it in every way but to grant it, and to send there."""
        return self._is_creator(actor) or actor.agent in agents_in(self.readers)

    def may_look(self, actor: Actor) -> bool:
        """Tell whether somebody may see what is in it."""
        return self.may_take(actor) or actor.agent in agents_in(self.viewers)

    def may_send(self, actor: Actor) -> bool:
        """Tell whether somebody may send to it."""
        if actor.barred and not self.may_take(actor):
            return False
        if self.send_policy == SendPolicy.EVERYONE:
            return True
        if self.send_policy == SendPolicy.GRANTED:
            return self.may_take(actor) or actor.agent in agents_in(self.senders)
        return self._is_creator(actor)

    def may_grant(self, actor: Actor) -> bool:
        """Tell whether somebody may say who else may use it."""
        if actor.agent is None:
            return self._is_creator(actor)
        return actor.agent == (actor.owner or self.creator)

    def _is_creator(self, actor: Actor) -> bool:
        """Tell whether somebody counts as its creator: of those who are no agents, most do."""
        creator = actor.owner or self.creator
        if actor.agent is None:
            return creator is None or not actor.is_stranger
        return not actor.closed if creator is None else creator == actor.agent


def agents_in(lines: str) -> tuple[str, ...]:
    """Return the agents in a list of the table, which has one a line."""
    return tuple(lines.split("\n")) if lines else ()
