"""The state machine: one command or query in, its result out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from mq9.engine import (
    agents,
    commands,
    leases,
    mailboxes,
    messages,
    moves,
    retention,
    status,
    totals,
)
from mq9.engine.commands import Command, Limits, Query
from mq9.engine.mailboxes import Mailbox
from mq9.errors import Mq9Error
from mq9.models import Unread

R = TypeVar("R")


class Unsettled(Exception):  # not a failure: a hint to the backend
    """Something in the mailbox has fallen due; ``Settle`` it before reading."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


def apply(connection: sqlite3.Connection, command: Command[R], now: int, limits: Limits) -> R:
    """Change the state.

    Args:
        connection: The database, inside a transaction that is undone when this raises.
        command: What to do.
        now: The instant at which it happens, in milliseconds since the Unix epoch.
        limits: What the broker takes.

    Raises:
        Mq9Error: The command was refused.
    """
    if isinstance(command, commands.Private):
        mailboxes.refuse_others(connection, command, now)
        mailboxes.adopt(connection, command)
    result: R = _COMMANDS[type(command)](connection, command, now, limits)
    sign_of = None
    if isinstance(command, commands.Send):
        sign_of = command.sender
    elif isinstance(command, commands.ByConsumer):
        sign_of = command.seen
    if sign_of is not None:
        agents.note_seen(connection, sign_of, now)
    return result


def note_refusal(connection: sqlite3.Connection, error: Mq9Error) -> None:
    """Keep what a command that was refused, and undone, has found out all the same."""
    if isinstance(error, messages.Full):
        error.remember(connection)


def read(connection: sqlite3.Connection, query: Query[R], now: int) -> R:
    """Look at the state.

    Args:
        connection: The database, inside a transaction: one query sees one state.
        query: What to look at.
        now: The instant at which it is seen, in milliseconds since the Unix epoch.

    Raises:
        Mq9Error: The query was refused.
        Unsettled: A message has fallen due that no command has made visible yet.
    """
    if isinstance(query, commands.Private):
        mailboxes.refuse_others(connection, query, now)
    result: R = _QUERIES[type(query)](connection, query, now)
    return result


def _settled(connection: sqlite3.Connection, address: str, now: int) -> Mailbox:
    mailbox = mailboxes.look(connection, address, now)
    if mailbox is None:
        raise mailboxes.not_found(address)
    if not mailboxes.is_settled(mailbox, now):
        raise Unsettled(address)
    return mailbox


def _unread(connection: sqlite3.Connection, query: commands.CountUnread, now: int) -> Unread | None:
    if mailboxes.look(connection, query.address, now) is None:
        return None
    return status.unread(connection, _settled(connection, query.address, now), query.group, now)


def _nothing(_connection: sqlite3.Connection, _query: commands.CheckActor, _now: int) -> None:
    """The check was made before."""


def _look(connection: sqlite3.Connection, _query: commands.Look, _now: int) -> None:
    connection.execute("SELECT 1 FROM mailboxes LIMIT 1").fetchone()


def _settle(
    connection: sqlite3.Connection, command: commands.Settle, now: int, _limits: Limits
) -> None:
    mailboxes.settle(connection, command.address, now)


def _in_mailbox(
    look: Callable[[sqlite3.Connection, Mailbox, Any, int], Any],
) -> Callable[[sqlite3.Connection, Any, int], Any]:
    """Make a query of a function that looks at one mailbox."""

    def query_mailbox(connection: sqlite3.Connection, query: Any, now: int) -> Any:
        return look(connection, _settled(connection, query.address, now), query, now)

    return query_mailbox


_COMMANDS: dict[type, Callable[[sqlite3.Connection, Any, int, Limits], Any]] = {
    commands.CreateMailbox: mailboxes.create,
    commands.GrantMailbox: mailboxes.grant,
    commands.DropMailbox: mailboxes.drop,
    commands.Settle: _settle,
    commands.Send: messages.send,
    commands.Delete: messages.delete,
    commands.Fetch: leases.fetch,
    commands.Release: leases.release,
    commands.ReleaseRequest: leases.release_request,
    commands.Ack: leases.ack,
    commands.Nack: leases.nack,
    commands.Move: moves.move,
    commands.Extend: leases.extend,
    commands.Register: agents.register,
    commands.Unregister: agents.unregister,
    commands.Report: agents.report,
    commands.Seen: agents.seen,
    commands.ClaimNames: agents.claim,
    commands.Sweep: retention.sweep,
}

_QUERIES: dict[type, Callable[[sqlite3.Connection, Any, int], Any]] = {
    commands.Peek: _in_mailbox(leases.peek),
    commands.WhyEmpty: _in_mailbox(status.why_empty),
    commands.QueryMessages: _in_mailbox(messages.query),
    commands.Status: _in_mailbox(status.status),
    commands.CountUnread: _unread,
    commands.CheckActor: _nothing,
    commands.Look: _look,
    commands.CountAll: totals.count,
    commands.ListPublic: mailboxes.list_public,
    commands.IsRegistered: agents.is_registered,
    commands.AgentKeys: agents.keys,
}
