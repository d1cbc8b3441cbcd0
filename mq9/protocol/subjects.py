"""Which NATS subject carries which verb.

A verb's subject is ``$mq9.AI.<verb>``; the verbs in ``ADDRESSED`` are followed by a mail_address,
and ``MSG.DELETE`` by a message id after that.
"""

from __future__ import annotations

from enum import StrEnum

from mq9 import address
from mq9.address import shown
from mq9.errors import InvalidRequest

ROOT = "$mq9.AI."


class Verb(StrEnum):
    """What a request asks for."""

    MAILBOX_CREATE = "MAILBOX.CREATE"
    MAILBOX_DROP = "MAILBOX.DROP"
    MAILBOX_STATUS = "MAILBOX.STATUS"
    MAILBOX_GRANT = "MAILBOX.GRANT"
    PUBLIC_LIST = "PUBLIC.LIST"
    SEND = "MSG.SEND"
    FETCH = "MSG.FETCH"
    ACK = "MSG.ACK"
    NACK = "MSG.NACK"
    MOVE = "MSG.MOVE"
    EXTEND = "MSG.EXTEND"
    RELEASE = "MSG.RELEASE"
    QUERY = "MSG.QUERY"
    DELETE = "MSG.DELETE"
    AGENT_REGISTER = "AGENT.REGISTER"
    AGENT_UNREGISTER = "AGENT.UNREGISTER"
    AGENT_REPORT = "AGENT.REPORT"
    AGENT_DISCOVER = "AGENT.DISCOVER"
    AGENT_WHOAMI = "AGENT.WHOAMI"


ADDRESSED = frozenset(
    {
        Verb.MAILBOX_DROP,
        Verb.MAILBOX_STATUS,
        Verb.MAILBOX_GRANT,
        Verb.SEND,
        Verb.FETCH,
        Verb.ACK,
        Verb.NACK,
        Verb.MOVE,
        Verb.EXTEND,
        Verb.RELEASE,
        Verb.QUERY,
        Verb.DELETE,
    }
)


def encode(verb: Verb, mail_address: str = "", msg_id: int | None = None) -> str:
    """Return the subject of a request."""
    parts = [verb.value]
    if verb in ADDRESSED:
        parts.append(mail_address)
    if msg_id is not None:
        parts.append(str(msg_id))
    return ROOT + ".".join(parts)


def decode(subject: str) -> tuple[Verb, str, int | None]:
    """Return the verb, the mail_address (``""`` where there is none) and the id in a subject.

    Raises:
        InvalidRequest: No verb of the protocol has that subject.
        InvalidAddress: The address in it is not one.
    """
    if not subject.startswith(ROOT):
        raise InvalidRequest(f"subject: {shown(subject)} does not start with {ROOT}")
    first, _, rest = subject.removeprefix(ROOT).partition(".")
    second, _, tail = rest.partition(".")
    try:
        verb = Verb(f"{first}.{second}")
    except ValueError:
        raise InvalidRequest(f"subject: {shown(subject)} is not a verb of mq9") from None
    if verb not in ADDRESSED:
        if subject != encode(verb):
            raise InvalidRequest(f"subject: {shown(subject)} has more than {verb.value} takes")
        return verb, "", None
    if verb is not Verb.DELETE:
        return verb, address.parse(tail), None
    mail_address, _, number = tail.rpartition(".")
    if not (number.isascii() and number.isdigit() and len(number) <= 16):
        raise InvalidRequest(
            f"msg_id: {shown(number)} at the end of the subject is not a message id"
        )
    return verb, address.parse(mail_address), int(number)
