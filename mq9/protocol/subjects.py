"""The NATS subjects of requests: ``$mq9.AI.<verb>``, and what the verb concerns."""

from __future__ import annotations

from typing import Any

from mq9 import address
from mq9.address import shown
from mq9.errors import InvalidRequest
from mq9.protocol.request import Body
from mq9.protocol.verbs import VERBS, Target, Verb, verb_of

ROOT = "$mq9.AI."


def encode(request: type[Body[Any]], mail_address: str = "", msg_id: int | None = None) -> str:
    """Return the subject of a kind of request.

    Args:
        request: What is asked for.
        mail_address: Of which mailbox, where it concerns one.
        msg_id: Of which message, where it concerns one.
    """
    verb = verb_of(request)
    parts = [verb.name]
    if verb.target is not Target.BROKER:
        parts.append(mail_address)
    if verb.target is Target.MESSAGE:
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
    verb = VERBS.get(f"{first}.{second}")
    if verb is None:
        raise InvalidRequest(f"subject: {shown(subject)} is not a verb of mq9")
    if verb.target is Target.BROKER:
        if subject != ROOT + verb.name:
            raise InvalidRequest(f"subject: {shown(subject)} has more than {verb.name} takes")
        return verb, "", None
    if verb.target is Target.MAILBOX:
        return verb, address.parse(tail), None
    mail_address, _, number = tail.rpartition(".")
    if not (number.isascii() and number.isdigit() and len(number) <= 16):
        raise InvalidRequest(
            f"msg_id: {shown(number)} at the end of the subject is not a message id"
        )
    return verb, address.parse(mail_address), int(number)
