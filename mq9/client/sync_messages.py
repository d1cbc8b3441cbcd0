"""Messages for code without an event loop: their methods block."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from mq9.errors import NotConnected
from mq9.models import Extended, Payload, Promise, StoredMessage

if TYPE_CHECKING:
    from mq9.client.sync_client import SyncMq9Client


@dataclass(frozen=True, kw_only=True)
class SyncMessage(StoredMessage):
    """A message that a ``SyncMq9Client`` fetched or found.

    It has the methods of ``Message``. Each blocks until it is done.
    """

    def ack(self, *, individual: bool = True) -> list[int]:
        """Confirm this message, by default without earlier ones of its fetch; see ``Message``."""
        return self._its_client().ack(self, individual=individual)

    def nack(self, *, delay: float = 0.0, reason: str | None = None) -> None:
        """Give this message back. ``delay`` is in seconds, default 0; see ``Message``."""
        self._its_client().nack(self, delay=delay, reason=reason)

    def extend(self, *, lease: float = 60.0, promise: Promise | None = None) -> Extended:
        """Renew the lease of this message. ``lease`` is in seconds, default 60; see ``Message``."""
        return self._its_client().extend(self, lease=lease, promise=promise)

    def promise(self, until: float, done: str | None = None, *, lease: float = 60.0) -> Extended:
        """Promise an answer by ``until``, in Unix seconds; see ``Message``."""
        return self.extend(lease=lease, promise=Promise(until=ceil(until), done=done))

    def move(self, to: str, *, reason: str | None = None) -> int | None:
        """Move this message to another mailbox; see ``Message``."""
        return self._its_client().move(self, to=to, reason=reason)

    def reply(
        self,
        payload: Payload,
        *,
        id: str | None = None,  # noqa: A002  # the protocol's word
        sender: str | None = None,
        from_mailbox: str | None = None,
        headers: Mapping[str, str] | None = None,
        path: Sequence[str] | None = None,
    ) -> int | None:
        """Answer this message; see ``Message``."""
        return self._its_client().reply(
            self,
            payload,
            id=id,
            sender=sender,
            from_mailbox=from_mailbox,
            headers=headers,
            path=path,
        )

    def _its_client(self) -> SyncMq9Client:
        client: SyncMq9Client | None = getattr(self, "_client", None)
        if client is None:
            raise NotConnected(
                f"message {self.msg_id} of {self.mail_address} remembers no client; "
                "pass it to a method of one, such as client.ack(message)"
            )
        return client


_FIELDS = tuple(field.name for field in dataclasses.fields(StoredMessage))


def as_sync(message: StoredMessage, client: SyncMq9Client) -> SyncMessage:
    """Return a message with blocking methods, attached to a client."""
    made = SyncMessage(**{name: getattr(message, name) for name in _FIELDS})
    object.__setattr__(made, "_client", client)
    return made
