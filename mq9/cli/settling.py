"""Actions of a person on a message that is leased or stuck.

Each function sends ordinary requests and returns a sentence about the result. The requests name
the consumer that holds the message. If another consumer holds it by then, nothing changes.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress

from mq9.cli.output import known_as, quoted
from mq9.client.client import Mq9Client
from mq9.client.error_answers import HEADER, ErrorAnswer, Failure, answer_digest
from mq9.errors import IdConflict, MailboxNotFound, MessageNotFound, Mq9Error, ReplyMailboxNotFound
from mq9.models import Message, Standing
from mq9.operations.conversations import mailbox_of_turn, thread_id

_ANSWERS = ".answers"  # of a worker, the mailbox for the answers to its questions


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A message as one consumer group sees it.

    Attributes:
        mail_address: Its mailbox.
        msg_id: Its number there.
        group_name: The group. None: no group fetched it.
    """

    mail_address: str
    msg_id: int
    group_name: str | None = None

    def __str__(self) -> str:
        return f"message {self.msg_id} of {self.mail_address}"


async def give_back(client: Mq9Client, place: Place, *, name: str) -> str:
    """End the lease of a message, so that the group can fetch it again.

    Args:
        client: The client that sends the requests.
        place: The message.
        name: The person, as ``mq9 why`` shows it.
    """
    standing = await _standing(client, place)
    if standing is None or standing.state != "leased" or standing.consumer is None:
        return f"{_begin(place)} is not leased, so nothing was given back."
    await client.nack(
        place.mail_address,
        standing.group_name,
        place.msg_id,
        consumer=standing.consumer,
        reason=f"given back by {name}",
    )
    return f"{_begin(place)} is given back: the lease of {quoted(standing.consumer)} has ended."


async def answer_with_error(
    client: Mq9Client, place: Place, *, reason: str, name: str, code: Failure = Failure.REJECTED
) -> str:
    """Answer a message with an error, and ack it for the group.

    Args:
        client: The client that sends the requests.
        place: The message.
        reason: The reason that the sender gets, up to 1 024 characters.
        name: The person who answers.
        code: The reason for programs.
    """
    message = await _message(client, place)
    if message is None:
        return f"{_begin(place)} is no longer stored."
    if HEADER in message.headers:
        return f"{_begin(place)} is itself an error answer, and gets no answer."
    if message.reply_to is None:
        return f"{_begin(place)} has no reply_to, so it cannot be answered."
    sent = await _send_error(client, message, ErrorAnswer.of(message, code, reason), name)
    return f"{sent} {await drop(client, place)}"


async def drop(client: Mq9Client, place: Place) -> str:
    """Ack a message for its group, or delete one that no group has fetched."""
    standing = await _standing(client, place)
    if standing is None or (standing.state == "pending" and not standing.deliveries):
        try:
            await client.delete(place.mail_address, place.msg_id)
        except MessageNotFound:
            return f"{_begin(place)} is no longer stored."
        return f"{_begin(place)} is deleted."
    if standing.state in {"acked", "moved", "skipped"}:
        return f"{_begin(place)} is {standing.state} already."
    holder = standing.consumer if standing.state == "leased" else None
    acked = await client.ack(
        place.mail_address,
        standing.group_name,
        place.msg_id,
        consumer=holder,
        any_consumer=holder is None,
        individual=True,
    )
    if not acked:
        return f"{_begin(place)} was not dropped: another consumer holds it now."
    return f"{_begin(place)} is dropped: group {quoted(standing.group_name)} does not get it again."


async def stop_run(client: Mq9Client, place: Place, *, name: str) -> str:
    """Stop the run of a message: send its sender an error, and end the lease and the run's turn.

    A ``MailboxWorker`` cancels such a run when it next renews its lease, at most a third of a lease
    later, or when it next stores a checkpoint. A handler of another consumer continues. Its message
    is not delivered again.

    Args:
        client: The client that sends the requests.
        place: The leased message.
        name: The person who stops it, as the error answer shows it.
    """
    standing = await _standing(client, place)
    message = await _message(client, place)
    if message is None or standing is None or standing.state != "leased":
        return f"{_begin(place)} is not leased: there is no run to stop."
    if place.mail_address == f"{standing.group_name}{_ANSWERS}":
        # Only its worker can close the question. Later messages would wait for it.
        return f"{_begin(place)} is an answer that resumes a run: such a run cannot be stopped."
    sent = "Its sender expects no answer."
    if message.reply_to is not None and HEADER not in message.headers:
        failed = ErrorAnswer.of(message, Failure.FAILED, f"stopped by {name}")
        sent = await _send_error(client, message, failed, name)
    done = await drop(client, place)
    agent = (standing.consumer or "").partition("/")[0]
    turn = mailbox_of_turn(place.mail_address, thread_id(agent, message))
    with suppress(MailboxNotFound):  # no worker of a graph, or its run has ended
        await client.mailbox_drop(turn)
        return f"{sent} {done} The run of {quoted(agent)} is stopped."
    return f"{sent} {done}"


async def _standing(client: Mq9Client, place: Place) -> Standing | None:
    """Return the state of a message in the group. None: no group has fetched it."""
    if place.group_name is None:
        return None
    status = await client.mailbox_status(place.mail_address, msg_id=place.msg_id)
    if status.message is None or status.message.state != "stored":
        raise MessageNotFound(f"message not found: {place} is no longer stored")
    standings = {one.group_name: one for one in status.message.groups}
    return standings.get(place.group_name)


async def _message(client: Mq9Client, place: Place) -> Message | None:
    """Return a stored message, as its group would fetch it."""
    found = await client.query(place.mail_address, msg_id=place.msg_id)
    return dataclasses.replace(found[0], group_name=place.group_name) if found else None


async def _send_error(client: Mq9Client, message: Message, failed: ErrorAnswer, name: str) -> str:
    """Send an error answer, at most once for a message; return a sentence about the result."""
    digest = answer_digest(message) or f"{message.mail_address}.{message.msg_id}"
    try:
        await client.reply(
            message, failed.value(), id=f"error.{digest}", sender=name, headers=failed.headers
        )
    except ReplyMailboxNotFound:
        return "The mailbox for its answer no longer exists."
    except IdConflict:
        return "Its sender got an error before."
    except Mq9Error as error:
        return f"The error could not be sent: {error}."
    receiver = (
        message.reply_to
        if message.sender is None
        else known_as(message.sender, message.sender_verified)
    )
    return f"{receiver} gets the error: {failed.reason}."


def _begin(place: Place) -> str:
    text = str(place)
    return text[:1].upper() + text[1:]
