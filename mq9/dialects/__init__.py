"""The older generations of the protocol, spoken beside the current one.

Each is a table of its verbs, in the form of the current one's, with functions that turn its
requests into the current ones; and it says which subjects may be subscribed to, to be sent mail.
The second generation has two tables: its published SDKs read other replies than its pages say.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from mq9.dialects import first, second
from mq9.dialects.listening import Listening
from mq9.protocol.verbs import NO_OLDER_VERBS, OlderVerbs


class Dialects(StrEnum):
    """The generations of the protocol that a server serves.

    The ``current`` one, or ``all``. With ``all``, published SDKs of the second generation are known
    by their name. With ``older-sdks``, every client that may be one of them is taken for one.
    """

    CURRENT = "current"
    ALL = "all"
    OLDER_SDKS = "older-sdks"


OLDER: Final[OlderVerbs] = {
    name: first.VERBS.get(name, ()) + second.VERBS.get(name, ())
    for name in (*first.VERBS, *second.VERBS)
}
OF_SDKS: Final[OlderVerbs] = {
    # What an SDK writes comes first; it writes some verbs in one way only.
    name: second.SDK_VERBS.get(name, ()) + verbs
    for name, verbs in OLDER.items()
}


def older_verbs(dialects: Dialects, *, is_sdk: bool) -> OlderVerbs:
    """Return the verbs that are spoken beside those of the current generation."""
    if dialects is Dialects.CURRENT:
        return NO_OLDER_VERBS
    return OF_SDKS if is_sdk or dialects is Dialects.OLDER_SDKS else OLDER


def is_broadcast(subject: str, dialects: Dialects) -> bool:
    """Tell whether what is published to a subject of mq9 is for whoever is subscribed just then."""
    return dialects is not Dialects.CURRENT and subject.startswith(first.BROADCAST)


def listen(subject: str, dialects: Dialects) -> Listening | None:
    """Return what a subscription to a subject of mq9 is sent; None where that is nothing."""
    if dialects is Dialects.CURRENT:
        return None  # whose mail is fetched
    return first.listen(subject) or second.listen(subject)
