"""What a consumer needs of a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mq9.client.payloads import Payload
from mq9.clock import Clock
from mq9.models import Deliver, Extended, FetchResult, Message, Priority


class ConsumerClient(Protocol):
    """The part of ``Mq9Client`` that consumers use; see there."""

    @property
    def clock(self) -> Clock:
        """The clock to go by."""

    def new_id(self) -> str:
        """Return an id that no other has."""

    async def fetch(
        self,
        mail_address: str,
        *,
        group_name: str,
        deliver: Deliver | str,
        num_msgs: int,
        max_wait_ms: int,
        lease_ms: int,
        redeliver_own: bool,
        consumer: str,
    ) -> FetchResult:
        """Lease messages."""

    async def ack(
        self,
        mail_address: str,
        group_name: str,
        msg_id: int,
        *,
        batch: str | None = None,
        individual: bool = False,
        consumer: str,
    ) -> list[int]:
        """Confirm messages."""

    async def nack(
        self,
        mail_address: str,
        group_name: str,
        msg_id: int,
        *,
        batch: str | None,
        delay_ms: int,
        consumer: str,
    ) -> None:
        """Give a message back."""

    async def move(
        self,
        mail_address: str,
        group_name: str,
        msg_id: int,
        *,
        to: str,
        reason: str,
        batch: str | None,
        consumer: str,
    ) -> int | None:
        """Move a message to another mailbox."""

    async def extend(
        self,
        mail_address: str,
        group_name: str,
        msg_ids: Sequence[int],
        *,
        lease_ms: int,
        consumer: str,
    ) -> Extended:
        """Renew leases."""

    async def send(
        self,
        mail_address: str,
        payload: Payload,
        *,
        priority: Priority | str,
        tags: Sequence[str],
        sender: str | None,
        reply_to: str | None,
        correlation_id: str | None,
        path: Sequence[str],
        headers: Mapping[str, str],
    ) -> int:
        """Send a message."""

    async def reply(self, message: Message, payload: Payload, *, sender: str | None) -> int | None:
        """Answer a message."""
