"""Recognizes requests of the official mq9 SDKs, whose clients do not introduce themselves.

There is one for Python, Go, Rust, JavaScript, Java and C#. All of them write the same few fields in
each request, and connect without a name.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Final, NamedTuple

from mq9.models import Deliver
from mq9.protocol.body import Body, fields_of, parse_object
from mq9.protocol.headers import PayloadEncoding
from mq9.protocol.requests import CreateMailbox, Fetch

_MOST_CONNECTIONS = 10_000
_MOST_MAILBOXES = 100  # of each


class Place(NamedTuple):
    """The position at which a connection continues to read a mailbox."""

    generation: str  # which of the mailboxes at the address it is
    cursors: tuple[int, ...]  # of each lane, the msg_id to read from


class LatestReads:
    """The places at which connections read on; the least recently used are forgotten first."""

    def __init__(
        self, most_connections: int = _MOST_CONNECTIONS, most_mailboxes: int = _MOST_MAILBOXES
    ) -> None:
        self._most_connections = most_connections
        self._most_mailboxes = most_mailboxes
        self._places: OrderedDict[str, OrderedDict[str, Place]] = OrderedDict()

    def get(self, connection: str, mail_address: str) -> Place | None:
        """Return where a connection reads on; None where it has not read."""
        places = self._places.get(connection)
        return None if places is None else places.get(mail_address)

    def put(self, connection: str, mail_address: str, place: Place) -> None:
        """Note where a connection reads on."""
        places = self._places.setdefault(connection, OrderedDict())
        places[mail_address] = place
        places.move_to_end(mail_address)
        if len(places) > self._most_mailboxes:
            places.popitem(last=False)
        self._places.move_to_end(connection)
        if len(self._places) > self._most_connections:
            self._places.popitem(last=False)

    def forget(self, connection: str) -> None:
        """Forget a connection that has ended."""
        self._places.pop(connection, None)


class PayloadForm:
    """Decides whether the replies to a connection hold base64 or text.

    The header of a request counts first, then the server's setting. With ``auto`` the kind of
    client
    counts: the official SDKs decode every payload from base64, and do not announce that. Each of
    their FETCHes can be recognized. Before the first one, a CREATE with exactly their bytes is a
    good sign. ``library`` is the ``lang`` of the connection's CONNECT.
    """

    def __init__(
        self, setting: PayloadEncoding = PayloadEncoding.AUTO, library: str | None = None
    ) -> None:
        self._default = setting
        self._library = library
        self._guess: PayloadEncoding | None = None  # with auto, before the client is known

    def is_base64(
        self, asked: PayloadEncoding | None, request: type[Body[Any]], payload: bytes
    ) -> bool:
        """Return whether the reply to a request holds base64; its header requests ``asked``."""
        if asked is not None:
            return asked is PayloadEncoding.BASE64
        if self._default is not PayloadEncoding.AUTO:
            return self._default is PayloadEncoding.BASE64
        if request is Fetch:
            if _is_fetch(parse_object(payload)):
                self._default = PayloadEncoding.BASE64  # from now on
                return True
            self._guess = PayloadEncoding.TEXT
        elif (
            request is CreateMailbox
            and self._guess is None
            and _may_be_create(payload, self._library)
        ):
            self._guess = PayloadEncoding.BASE64
        return self._guess is PayloadEncoding.BASE64


_FETCH: Final = {"group_name", "deliver", "from_time", "from_id", "force_deliver", "config"}
_CONFIG: Final = {"num_msgs", "max_wait_ms"}

# A CREATE byte for byte: a number of seconds, and perhaps a name. JSON writers differ in spaces.
_NAME = rb'"[a-z0-9.]+"'
_PYTHON = re.compile(rb'\{"ttl": \d+(?:, "name": %s)?\}' % _NAME)
_COMPACT = re.compile(rb'\{(?:"name":%s,)?"ttl":\d+\}|\{"ttl":\d+,"name":%s\}' % (_NAME, _NAME))
_PYTHON_LIBRARY = "python3"  # as nats-py calls itself


def _may_be_create(payload: bytes, library: str | None) -> bool:
    """Return whether a CREATE has exactly the bytes of an official SDK."""
    if library is None:  # so no SDK connects
        return False
    if _PYTHON.fullmatch(payload):
        return True
    return library != _PYTHON_LIBRARY and _COMPACT.fullmatch(payload) is not None


def _is_fetch(body: dict[str, object]) -> bool:
    """Return whether a FETCH has the fields that the official SDKs always send."""
    config = body.get("config")
    return (
        isinstance(config, dict)
        and None not in map(body.get, ("deliver", "force_deliver"))
        and None not in map(config.get, _CONFIG)
    )


def reads_on(fetch: Fetch, payload: bytes) -> bool:
    """Return whether a FETCH is one of their ``consume`` without a group."""
    if fetch.group_name is not None or fetch.deliver is not Deliver.LATEST:
        return False
    body = fields_of(payload)
    config = body.get("config")
    return (
        _is_fetch(body)
        and body.keys() <= _FETCH
        and isinstance(config, dict)
        and config.keys() == _CONFIG
    )
