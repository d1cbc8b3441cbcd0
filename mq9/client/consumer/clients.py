"""What a consumer needs of a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, overload

from mq9.clock import Clock
from mq9.models import (
    Deliver,
    Extended,
    FetchResult,
    MailboxStatus,
    MessageClient,
    Payload,
    Priority,
    StoredMessage,
)


class ConsumerClient(MessageClient, Protocol):
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
        begun: bool,
        consumer: str,
    ) -> FetchResult:
        """Lease messages."""

    @overload
    async def ack(self, message: StoredMessage, /, *, individual: bool) -> list[int]: ...
    @overload
    async def ack(
        self, mail_address: str, group_name: str, msg_id: int, *, consumer: str
    ) -> list[int]: ...

    @overload
    async def extend(self, message: StoredMessage, /, *, lease: float) -> Extended: ...
    @overload
    async def extend(
        self,
        mail_address: str,
        group_name: str,
        msg_ids: Sequence[int],
        *,
        lease_ms: int,
        begun: bool | None,
        consumer: str,
    ) -> Extended: ...

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

    async def mailbox_status(self, mail_address: str, *, msg_id: int) -> MailboxStatus:
        """Describe a mailbox, and a message in it."""
