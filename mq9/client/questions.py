"""The methods of a client for questions and answers. Both are messages."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from math import ceil

from mq9 import address as addresses
from mq9.client import arguments, tracing
from mq9.client.answers import first_answers, once_there
from mq9.client.error_answers import ErrorAnswer, answer_id
from mq9.client.groups import GroupMethods
from mq9.client.mailboxes import MailboxMethods
from mq9.client.messages import MessageMethods
from mq9.client.ordered_reading import OrderedReading
from mq9.errors import (
    Forbidden,
    IdConflict,
    InvalidRequest,
    MailboxNotFound,
    Mq9Error,
    NoReply,
    ReplyForbidden,
    ReplyMailboxNotFound,
)
from mq9.models import PART_OF, QUESTION_TAG, Message, Payload, Priority, StoredMessage
from mq9.protocol import checks, requests

_logger = logging.getLogger("mq9.client")

_GRACE_S = 60  # a private reply mailbox outlives the timeout of its question by this


def lifetime_s(timeout: float) -> int:
    """Return the TTL of a question and its reply mailbox for a timeout, both in seconds."""
    return min(int(timeout) + _GRACE_S, checks.MAX_SECONDS)


class QuestionMethods(MailboxMethods, MessageMethods, GroupMethods):
    """Ask questions, and answer them."""

    async def request(
        self,
        mail_address: str,
        payload: Payload,
        *,
        timeout: float = 30.0,
        priority: Priority | str = Priority.NORMAL,
        sender: str | None = None,
        headers: Mapping[str, str] | None = None,
        answer_by: float | None = None,
    ) -> Message:
        """Ask a question and return its answer.

        The client creates a private reply mailbox and drops it afterwards. The answer is the
        message there with the correlation id of the question. Question and reply mailbox expire a
        minute after ``timeout``. If the mailbox to ask does not exist yet, the client waits for it,
        for at most 10 s of the ``timeout``.

        Args:
            mail_address: The mailbox to ask.
            payload: The question; see ``send``.
            timeout: Seconds to wait for the answer, more than 0. Default: 30.
            priority: The question's priority. Default: ``normal``.
            sender: The name of the sender.
            headers: The question's headers; see ``send``.
            answer_by: The deadline that the reader sees, in Unix seconds. Default: the end of
                ``timeout``.

        Raises:
            NoReply: No answer arrived in time. Agents can still read the question until it expires.
            RequestFailed: The agent gave the question up.
            MailboxNotFound: The mailbox to ask does not exist.

        Example:
            ```python
            answer = await client.request("florist", "How many roses are left?", timeout=10)
            print(answer.text)
            ```
        """
        address = addresses.parse(mail_address)
        seconds = checks.seconds(above_zero=True)("timeout", timeout)
        correlation_id = self.new_id()
        lifetime = lifetime_s(seconds)
        reply_to = self.new_address("reply")
        body = arguments.payload(payload)
        options = requests.Send(
            priority=arguments.priority(priority),
            ttl=lifetime,
            id=self._request_ids.next(),
            sender=sender,
            reply_to=reply_to,
            correlation_id=correlation_id,
            answer_by=(
                self._in(seconds)
                if answer_by is None
                else checks.unix_seconds("answer_by", answer_by)
            ),
            headers=arguments.headers(headers),
        )
        with tracing.requesting(address) as answers:
            async with self._private_mailbox(reply_to, lifetime):
                deadline_ms = self.clock.monotonic_ms() + round(seconds * 1000)
                await once_there(
                    lambda: self._send(address, body, options),
                    address,
                    clock=self.clock,
                    seconds=seconds,
                )
                reading = OrderedReading(self, reply_to)
                left_s = max(0, deadline_ms - self.clock.monotonic_ms()) / 1000
                found = await first_answers(
                    reading, {correlation_id}, clock=self.clock, seconds=left_s
                )
            answers.extend(found.values())
            if not found:
                raise NoReply(f"no answer from {address} within {seconds:g} s")
            answer = found[correlation_id]
            failed = ErrorAnswer.read(answer)
            if failed is not None:
                raise failed.as_error(address)
        return answer

    def _in(self, seconds: float) -> int:
        """Return the instant that is this many seconds from now, in whole Unix seconds."""
        instant = ceil(self.clock.now_ms() / 1000 + seconds)
        return min(instant, checks.MAX_UNIX_SECONDS)

    @asynccontextmanager
    async def _private_mailbox(self, mail_address: str, lifetime: int) -> AsyncIterator[None]:
        """Provide a mailbox inside the context. It expires after ``lifetime`` seconds at most."""
        await self.mailbox_create(name=mail_address, ttl=lifetime, renew=True)
        try:
            yield
        finally:
            await self._discard(mail_address)

    async def _discard(self, mail_address: str) -> None:
        """Drop a private mailbox. If that fails, its TTL removes it."""
        try:
            await self.mailbox_drop(mail_address)
        except Mq9Error as error:
            _logger.debug("%s was left to expire: %s", mail_address, error)

    async def reply(
        self,
        message: StoredMessage,
        payload: Payload,
        *,
        id: str | None = None,  # noqa: A002  # the protocol's word
        sender: str | None = None,
        from_mailbox: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: Sequence[str] | None = None,
    ) -> int | None:
        """Answer a message: send to its ``reply_to``, with its ``correlation_id``.

        A consumer group answers a message once, even if the group gets the message several times:
        the idempotency id is derived from the message. If the group answers a redelivered message
        with another body, the first answer stays.

        Args:
            message: The message to answer, from ``fetch``, ``query`` or a handler.
            payload: The answer; see ``send``.
            id: The idempotency id. Required for each further, different answer to one message.
            sender: The name of the sender.
            from_mailbox: The mailbox that the answer comes from; see ``send``. Default: the mailbox
                of the message, if it is tagged ``question`` (a question to a person).
            headers: The answer's headers; see ``send``. If headers of the message name its
                conversation, the answer also gets the header ``part-of-conversation``.
            path: The agents that the conversation has passed through.

        Returns:
            The msg_id of the answer. None if the group gave another answer in an earlier delivery.

        Raises:
            InvalidRequest: The message has no ``reply_to``.
            ReplyMailboxNotFound: The sender of the question no longer waits for an answer.
            IdConflict: The message was answered with another body, and this is its first delivery
                or ``id`` is set.
            ReplyForbidden: The connection's agent may not send to the mailbox in ``reply_to``.
            Forbidden: ``from_mailbox`` is set, and the connection's agent may not send to the
                mailbox in ``reply_to`` or not take messages from ``from_mailbox``.

        Example:
            ```python
            for message in await client.fetch("garden", group_name="helpers"):
                if message.reply_to is not None:
                    await client.reply(message, "Done.")
                await message.ack()
            ```
        """
        if not isinstance(message, StoredMessage):
            raise InvalidRequest(f"message: {checks.shown(message)} is not a Message")
        if message.reply_to is None:
            raise InvalidRequest(f"reply_to: message {message.msg_id} does not say where to answer")
        own_id = None if checks.is_absent(id) else id
        if from_mailbox is None and QUESTION_TAG in message.tags and message.moved is None:
            from_mailbox = message.mail_address
        try:
            return await self.send(
                message.reply_to,
                payload,
                id=own_id or answer_id(message),
                correlation_id=message.correlation_id,
                sender=sender,
                from_mailbox=from_mailbox,
                path=path,
                headers=_in_conversation(message, headers),
            )
        except MailboxNotFound as error:
            missing = ReplyMailboxNotFound(str(error))
            missing.broker = error.broker
            raise missing from error
        except Forbidden as error:
            if from_mailbox is not None:
                raise  # from_mailbox may be the cause
            forbidden = ReplyForbidden(str(error))
            forbidden.broker = error.broker
            raise forbidden from error
        except IdConflict as error:
            if own_id is not None:
                raise
            if message.delivery_count <= 1:
                raise IdConflict(
                    f"message {message.msg_id} has been answered with another body; "
                    "a further answer needs an id of its own"
                ) from error
        _logger.info(
            "message %d of %s was answered in an earlier delivery; that answer stands",
            message.msg_id,
            message.mail_address,
        )
        return None


def _in_conversation(
    message: StoredMessage, headers: Mapping[str, str] | None
) -> Mapping[str, str] | None:
    """Return the headers of an answer, with the conversation of the question if it has a name."""
    name = message.conversation
    if name in {None, message.correlation_id}:
        return headers
    return {PART_OF: str(name), **(headers or {})}
