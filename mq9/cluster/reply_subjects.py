"""Subjects of replies: a gateway publishes to inboxes only."""

from __future__ import annotations

from collections.abc import Sequence

from mq9.address import shown
from mq9.cluster.jetstream import NAME
from mq9.errors import InvalidRequest
from mq9.wire.subjects import is_subject

INBOXES = ("_INBOX.",)
GATEWAY_INBOX = f"_INBOX.{NAME}.gateway"  # the prefix of the inboxes of gateways
OPERATOR_INBOX = f"_INBOX.{NAME}.operator"
_CLOSED = ("$", f"{NAME}.", f"{GATEWAY_INBOX}.")


class ReplySubjects:
    """The subjects to which a gateway publishes replies: inboxes only.

    A client names the subject of its reply, and the gateway publishes there with its own rights. A
    reply to JetStream, to the log or to another gateway would be a command that the client itself
    may not send.
    """

    def __init__(self, prefixes: Sequence[str] = INBOXES) -> None:
        for prefix in prefixes:
            _check(prefix)
        self._prefixes = tuple(prefixes)

    def allows(self, subject: str) -> bool:
        """Return whether a reply may be published there."""
        return (
            subject.startswith(self._prefixes)
            and not subject.startswith(_CLOSED)
            and is_subject(subject)
        )


def _check(prefix: str) -> None:
    """Refuse a malformed prefix, and one that covers closed subjects."""
    named = f"reply-prefix: {shown(prefix)}"
    if prefix.startswith(_CLOSED):
        raise InvalidRequest(
            f"{named} covers subjects of NATS or of the cluster itself; name a prefix of inboxes, "
            f"such as {INBOXES[0]}"
        )
    if (
        not prefix.endswith(".")
        or any(one.isspace() for one in prefix)
        or not is_subject(prefix[:-1])
    ):
        raise InvalidRequest(
            f"{named} is not the beginning of a subject; write whole tokens and a dot at the end, "
            f"such as {INBOXES[0]}"
        )
