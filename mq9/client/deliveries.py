"""Which delivery to a consumer group a request is about: that of a message, or one told by ids."""

from __future__ import annotations

from dataclasses import dataclass

from mq9 import address as addresses
from mq9.client import arguments
from mq9.errors import InvalidRequest
from mq9.models import StoredMessage
from mq9.protocol import checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as it was delivered to a consumer group.

    Attributes:
        mail_address: The mailbox.
        group_name: The consumer group.
        msg_id: The message.
        consumer: The consumer that fetched it; None where that was not said.
        batch: The token of the fetch; None where it is not known.
    """

    mail_address: str
    group_name: str
    msg_id: int
    consumer: str | None = None
    batch: str | None = None


def of_call(
    target: StoredMessage | str,
    group_name: str | None,
    msg_id: int | None,
    *,
    consumer: str | None,
    batch: str | None,
    **others: object,
) -> Delivery:
    """Return the delivery that a method is called for, with a message or with ids.

    Args:
        target: The message, or the mailbox.
        group_name: The consumer group, with ids.
        msg_id: The message's id, with ids.
        consumer: Who fetched it, with ids.
        batch: The token of the fetch, with ids.
        others: Further arguments that belong to the form by ids, and must be None with a message.

    Raises:
        InvalidAddress: ``target`` is no address.
        InvalidRequest: The message was not fetched by a group, an argument does not go with it, or
            an id is not given.
    """
    if isinstance(target, StoredMessage):
        return of_message(
            target, group_name=group_name, msg_id=msg_id, consumer=consumer, batch=batch, **others
        )
    return Delivery(
        mail_address=addresses.parse(target),
        group_name=arguments.given("group_name", group_name),
        msg_id=arguments.given("msg_id", msg_id),
        consumer=consumer,
        batch=batch,
    )


def of_message(message: StoredMessage, **given: object) -> Delivery:
    """Return the delivery of a message.

    Args:
        message: The message.
        given: Arguments that belong to the other form, by ids, and must be None here.

    Raises:
        InvalidRequest: It was not fetched by a group, or another argument is given.
    """
    for name, value in given.items():
        if value is not None:
            raise InvalidRequest(f"{name}: {checks.shown(value)} does not go with a message")
    if message.group_name is None:
        raise InvalidRequest(
            f"message: {message.msg_id} of {message.mail_address} was not fetched by a consumer "
            "group, which alone acks, gives back, extends and moves"
        )
    return Delivery(
        mail_address=addresses.parse(message.mail_address),
        group_name=message.group_name,
        msg_id=message.msg_id,
        consumer=message.consumer,
        batch=message.batch,
    )
