"""Actions of a person on a message that somebody works on, or that is stuck.

Each function makes ordinary requests and returns a sentence that says what became of it. The
requests name the consumer that holds the message, so that one which somebody else holds by now is
left alone.
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
        group_name: The group; None where no group was given it.
    """

    mail_address: str
    msg_id: int
    group_name: str | None = None

    def __str__(self) -> str:
        return f"message {self.msg_id} of {self.mail_address}"


async def give_back(client: Mq9Client, place: Place, *, name: str) -> str:
    """End the lease of a message, so that the group is given it again.

    Args:
        client: Whose requests these are.
        place: The message.
        name: Who gives it back; ``mq9 why`` tells so.
    """
    standing = await _standing(client, place)
    if standing is None or standing.state != "leased" or standing.consumer is None:
        return f"{_begin(place)} is leased by nobody, so there is nothing to give back."
    await client.nack(
        place.mail_address,
        standing.group_name,
        place.msg_id,
        consumer=standing.consumer,
        reason=f"given back by {name}",
    )
    return f"{_begin(place)} is given back: {quoted(standing.consumer)} holds it no longer."


async def answer_with_error(
    client: Mq9Client, place: Place, *, reason: str, name: str, code: Failure = Failure.REJECTED
) -> str:
    """Answer a message with an error, and take it from the group.

    Args:
        client: Whose requests these are.
        place: The message.
        reason: What the asker is told, up to 1 024 characters.
        name: Who answers.
        code: Why the message is given up, for programs.
    """
    message = await _message(client, place)
    if message is None:
        return f"{_begin(place)} is no longer stored."
    if HEADER in message.headers:
        return f"{_begin(place)} is an error answer itself, which nobody answers."
    if message.reply_to is None:
        return f"{_begin(place)} does not say where its answer goes, so nobody can be told."
    told = await _tell(client, message, ErrorAnswer.of(message, code, reason), name)
    return f"{told} {await drop(client, place)}"


async def drop(client: Mq9Client, place: Place) -> str:
    """Take a message from its group by an ack; remove one that no group was given."""
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
        return f"{_begin(place)} was not dropped: somebody else holds it by now."
    return f"{_begin(place)} is dropped: group {quoted(standing.group_name)} gets it no more."


async def stop_run(client: Mq9Client, place: Place, *, name: str) -> str:
    """Stop the run of a message: its asker is told, the lease ends, and so does the run's turn.

    A ``MailboxWorker`` cancels a run whose turn has ended when it next renews its lease, at most a
    third of a lease later, or when it next stores a checkpoint, whichever is first. A handler of
    another consumer goes on; its message does not come again.

    Args:
        client: Whose requests these are.
        place: The message that is worked on.
        name: Who stops it. The asker is told so.
    """
    standing = await _standing(client, place)
    message = await _message(client, place)
    if message is None or standing is None or standing.state != "leased":
        return f"{_begin(place)} is worked on by nobody: there is nothing to stop."
    if place.mail_address == f"{standing.group_name}{_ANSWERS}":
        # Its worker alone can close the question, which would keep later messages waiting.
        return f"{_begin(place)} is an answer that a run goes on with: such a run is not stopped."
    told = "Nobody waits for its answer."
    if message.reply_to is not None and HEADER not in message.headers:
        failed = ErrorAnswer.of(message, Failure.FAILED, f"stopped by {name}")
        told = await _tell(client, message, failed, name)
    done = await drop(client, place)
    agent = (standing.consumer or "").partition("/")[0]
    turn = mailbox_of_turn(place.mail_address, thread_id(agent, message))
    with suppress(MailboxNotFound):  # no worker of a graph, or its run has ended
        await client.mailbox_drop(turn)
        return f"{told} {done} The run of {quoted(agent)} is stopped."
    return f"{told} {done}"


async def _standing(client: Mq9Client, place: Place) -> Standing | None:
    """Return how the group stands with a message; None without a group that was given it."""
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


async def _tell(client: Mq9Client, message: Message, failed: ErrorAnswer, name: str) -> str:
    """Send an error answer once, however often this is called; say what became of it."""
    digest = answer_digest(message) or f"{message.mail_address}.{message.msg_id}"
    try:
        await client.reply(
            message, failed.value(), id=f"error.{digest}", sender=name, headers=failed.headers
        )
    except ReplyMailboxNotFound:
        return "Nobody waits for its answer any more."
    except IdConflict:
        return "Its sender was told of an error before."
    except Mq9Error as error:
        return f"Its sender could not be told: {error}."
    asker = (
        message.reply_to
        if message.sender is None
        else known_as(message.sender, message.sender_verified)
    )
    return f"{asker} is told: {failed.reason}."


def _begin(place: Place) -> str:
    text = str(place)
    return text[:1].upper() + text[1:]
