"""Which function of the engine carries out which request."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from mq9.engine.commands import Call
from mq9.engine.limits import Limits
from mq9.engine.mailbox import Mailbox
from mq9.protocol.request import Request

Q = TypeVar("Q", bound=Request[Any])
Command = Callable[[sqlite3.Connection, Call[Q], int, Limits], Any]
Unguarded = Callable[[sqlite3.Connection, Mailbox, Call[Q], int, Limits], Any]
Query = Callable[[sqlite3.Connection, Call[Q], int], Any]

COMMANDS: dict[type[Request[Any]], Command[Any]] = {}
UNGUARDED: dict[type[Request[Any]], Unguarded[Any]] = {}
UNCHANGING: dict[type[Request[Any]], Query[Any]] = {}
QUERIES: dict[type[Request[Any]], Query[Any]] = {}


def command(request: type[Q]) -> Callable[[Command[Q]], Command[Q]]:
    """Let the function below carry out a request that changes the state.

    It is given the database inside a transaction that is undone when it raises, the call, the
    instant at which it happens in milliseconds since the Unix epoch, and what the broker takes.
    """

    def register(function: Command[Q]) -> Command[Q]:
        COMMANDS[request] = function
        return function

    return register


def unguarded(request: type[Q]) -> Callable[[Unguarded[Q]], Unguarded[Q]]:
    """Let the function below carry out what a command is most of the time, and at less cost.

    Where it raises it has changed nothing, so that nothing has to be undone. It gives None, and has
    changed nothing either, for a call that may be refused later than that, which the function of
    the command then carries out. It is given the mailbox beside what that one is given, whose
    counters are written with those of other calls.
    """

    def register(function: Unguarded[Q]) -> Unguarded[Q]:
        UNGUARDED[request] = function
        return function

    return register


def unchanging(request: type[Q]) -> Callable[[Query[Q]], Query[Q]]:
    """Let the function below answer a command that would change nothing; None for one that may.

    It is given what the function of a query is given.
    """

    def register(function: Query[Q]) -> Query[Q]:
        UNCHANGING[request] = function
        return function

    return register


def query(request: type[Q]) -> Callable[[Query[Q]], Query[Q]]:
    """Let the function below answer a request that changes nothing.

    It is given the database inside a transaction, so that it sees one state, the call, and the
    instant at which that is seen in milliseconds since the Unix epoch.
    """

    def register(function: Query[Q]) -> Query[Q]:
        QUERIES[request] = function
        return function

    return register
