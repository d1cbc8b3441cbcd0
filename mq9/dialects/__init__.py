"""The older generations of the protocol, spoken beside the current one.

Each is a table of its verbs, in the form of the current one's, with functions that turn its
requests into the current ones; and it says which subjects may be subscribed to, to be sent mail.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from mq9.dialects import first, second
from mq9.dialects.listening import Listening
from mq9.protocol.verbs import NO_OLDER_VERBS, OlderVerbs


class Dialects(StrEnum):
    """Which generations of the protocol a server speaks: the ``current`` one, or ``all``."""

    CURRENT = "current"
    ALL = "all"


OLDER: Final[OlderVerbs] = {
    name: first.VERBS.get(name, ()) + second.VERBS.get(name, ())
    for name in (*first.VERBS, *second.VERBS)
}


def older_verbs(dialects: Dialects) -> OlderVerbs:
    """Return the verbs that are spoken beside those of the current generation."""
    return OLDER if dialects is Dialects.ALL else NO_OLDER_VERBS


def is_broadcast(subject: str, dialects: Dialects) -> bool:
    """Tell whether what is published to a subject of mq9 is for whoever is subscribed just then."""
    return dialects is Dialects.ALL and subject.startswith(first.BROADCAST)


def listen(subject: str, dialects: Dialects) -> Listening | None:
    """Return what a subscription to a subject of mq9 is sent; None where that is nothing.

    Args:
        subject: It begins with ``$mq9.AI.``.
        dialects: The generations that are spoken.

    Raises:
        InvalidAddress: The mailbox in it is not an address.
        InvalidRequest: The priority in it is none.
    """
    if dialects is Dialects.CURRENT:
        return None  # whose mail is fetched
    return first.listen(subject) or second.listen(subject)
