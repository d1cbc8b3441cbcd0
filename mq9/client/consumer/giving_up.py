"""Error answers to the senders of requests that a consumer gives up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from mq9.client.consumer.acks import Acks
from mq9.client.consumer.options import ConsumerOptions, lease_ms
from mq9.client.error_answers import ErrorAnswer, Failure, send_error_answer
from mq9.clock import Clock
from mq9.errors import Mq9Error
from mq9.models import Message, MessageHistory

if TYPE_CHECKING:
    from mq9.client.client import Mq9Client

_logger = logging.getLogger("mq9.consumer")


class ErrorAnswers:
    """Sends error answers, if this group is the one that answers its messages.

    The option ``error_answers`` decides that. By default a group answers in these cases: it has the
    name of the mailbox, its handler has answered a message, or it is the mailbox's only group. So a
    group that only listens sends no error answers.
    """

    def __init__(
        self,
        name: str,
        client: Mq9Client,
        acks: Acks,
        options: ConsumerOptions,
        has_answered: Callable[[], bool],
    ) -> None:
        self._name = name
        self._client = client
        self._clock: Clock = client.clock
        self._acks = acks
        self._options = options
        self._has_answered = has_answered

    async def send(self, message: Message, code: Failure, reason: str) -> None:
        """Send an error answer for a message before giving it up, if its sender waits.

        The caller has just renewed the lease. Without a lease, another consumer has the message.
        """
        if message.reply_to is None or not self._may_answer:
            return
        if not self._is_sure and not self._is_alone(await self._history(message)):
            return
        await self._send(message, code, reason)

    async def send_if_expiring(self, message: Message, delay_ms: int, reason: str) -> None:
        """Send an error answer if the message expires before its next delivery."""
        if message.reply_to is None or not self._may_answer:
            return
        history = await self._history(message)
        if history is None or not (self._is_sure or self._is_alone(history)):
            return
        again = (self._clock.now_ms() + delay_ms) / 1000
        if history.state == "expired":
            is_over = not self._was_delivered_later(message, history)
        else:
            expires = history.expires is not None and history.expires <= again
            is_over = expires and await self._is_held(message)
        if is_over:
            await self._send(message, Failure.EXPIRED, reason)

    @property
    def _may_answer(self) -> bool:
        return self._options["error_answers"] is not False

    @property
    def _is_sure(self) -> bool:
        """Whether the group answers, without checking the other groups."""
        return (
            bool(self._options["error_answers"])
            or self._acks.group_name == self._acks.mail_address
            or self._has_answered()
        )

    def _is_alone(self, history: MessageHistory | None) -> bool:
        """Return whether no other group has the message."""
        if history is None:
            return False
        concerned = {one.group_name for one in history.groups if one.state != "skipped"}
        return concerned <= {self._acks.group_name}

    def _was_delivered_later(self, message: Message, history: MessageHistory) -> bool:
        """Return whether the group got the message again before it expired."""
        return any(
            one.group_name == self._acks.group_name and one.deliveries > message.delivery_count
            for one in history.groups
        )

    async def _history(self, message: Message) -> MessageHistory | None:
        try:
            status = await self._client.mailbox_status(
                self._acks.mail_address, msg_id=message.msg_id
            )
        except Mq9Error as error:
            _logger.debug("%s cannot see message %d: %s", self._name, message.msg_id, error)
            return None
        return status.message

    async def _is_held(self, message: Message) -> bool:
        try:
            return await self._acks.is_held(message, lease_ms(self._options))
        except Mq9Error as error:
            _logger.debug("%s cannot renew message %d: %s", self._name, message.msg_id, error)
            return False

    async def _send(self, message: Message, code: Failure, reason: str) -> None:
        failed = ErrorAnswer.of(message, code, reason)
        if await send_error_answer(self._client, message, failed, sender=self._options["agent"]):
            _logger.warning(
                "%s answered message %d with an error: %s, %s (reference %s)",
                self._name,
                message.msg_id,
                failed.code,
                failed.reason,
                failed.reference,
            )
