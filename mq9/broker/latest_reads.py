"""How far connections have read that follow a mailbox without a group, as the official SDKs do.

Their ``consume`` repeats one FETCH with ``deliver: latest``. The first is given the newest message,
each later one what has arrived since.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

_MOST_CONNECTIONS = 10_000
_MOST_MAILBOXES = 100  # of each


class Place(NamedTuple):
    """Where a connection reads on in a mailbox.

    Attributes:
        generation: Which of the mailboxes at the address it is.
        cursors: Of each lane, the msg_id to read from.
    """

    generation: str
    cursors: tuple[int, ...]


class LatestReads:
    """The places at which connections read on; the least recently used are forgotten first.

    Args:
        most_connections: How many connections.
        most_mailboxes: How many places of each.
    """

    def __init__(
        self, most_connections: int = _MOST_CONNECTIONS, most_mailboxes: int = _MOST_MAILBOXES
    ) -> None:
        self._most_connections = most_connections
        self._most_mailboxes = most_mailboxes
        self._places: OrderedDict[str, OrderedDict[str, Place]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

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
