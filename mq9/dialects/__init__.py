"""The older generations of the protocol, served in addition to the current one.

Each is a table of verbs, in the form of the current table, with functions that convert its
requests. It also defines which subjects clients may subscribe to for mail. The second generation
has two tables, because its published SDKs expect other replies than its documentation says.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from mq9.dialects import first, second
from mq9.dialects.listening import Listening
from mq9.protocol.verbs import NO_OLDER_VERBS, OlderVerbs


class Dialects(StrEnum):
    """The generations of the protocol that a server serves.

    The ``current`` one, or ``all``. With ``all``, published SDKs of the second generation are
    recognized by their name. With ``older-sdks``, every client that may be one of them counts as
    one.
    """

    CURRENT = "current"
    ALL = "all"
    OLDER_SDKS = "older-sdks"


OLDER: Final[OlderVerbs] = {
    name: first.VERBS.get(name, ()) + second.VERBS.get(name, ())
    for name in (*first.VERBS, *second.VERBS)
}
OF_SDKS: Final[OlderVerbs] = {
    # The verbs of an SDK come first; it writes some verbs in one way only.
    name: second.SDK_VERBS.get(name, ()) + verbs
    for name, verbs in OLDER.items()
}


def older_verbs(dialects: Dialects, *, is_sdk: bool) -> OlderVerbs:
    """Return the verbs that are served in addition to those of the current generation."""
    if dialects is Dialects.CURRENT:
        return NO_OLDER_VERBS
    return OF_SDKS if is_sdk or dialects is Dialects.OLDER_SDKS else OLDER


def is_broadcast(subject: str, dialects: Dialects) -> bool:
    """Tell whether a subject is a broadcast, which only its current subscribers get."""
    return dialects is not Dialects.CURRENT and subject.startswith(first.BROADCAST)


def listen(subject: str, dialects: Dialects) -> Listening | None:
    """Return what a subscription to a subject of mq9 receives; None if it receives nothing."""
    if dialects is Dialects.CURRENT:
        return None  # clients of the current generation fetch their mail
    return first.listen(subject) or second.listen(subject)
