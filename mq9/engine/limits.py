"""What one broker takes."""

from __future__ import annotations

from dataclasses import dataclass

from mq9.errors import PayloadTooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """What one broker takes; beyond it a request is refused with the limit's name.

    They are part of the state, so that every replica refuses the same.

    Attributes:
        max_payload: Bytes in one message.
        max_registration: Bytes in one registration or report.
        max_mailboxes: Mailboxes that have not expired.
        max_messages: Messages in one mailbox, delayed ones included.
        max_bytes: Bytes in one mailbox, delayed messages included: payloads, and all text stored
            with them.
        max_agents: Registrations.
        max_groups: Consumer groups of one mailbox.
        max_ids: Idempotency ids that one mailbox remembers.
        max_redelivered: Bytes that are remembered of replies to one group, for what it had been
            given before.
    """

    max_payload: int = 1024 * 1024
    max_registration: int = 64 * 1024
    max_mailboxes: int = 100_000
    max_messages: int = 100_000
    max_bytes: int = 1024 * 1024 * 1024
    max_agents: int = 200_000
    max_groups: int = 1_000
    max_ids: int = 10_000_000
    max_redelivered: int = 256 * 1024 * 1024

    def check_payload(self, payload: bytes) -> None:
        """Raise PayloadTooLarge when a message is too large."""
        _check_size("max_payload", payload, self.max_payload)

    def check_registration(self, registered: bytes) -> None:
        """Raise PayloadTooLarge when a registration or report is too large."""
        _check_size("max_registration", registered, self.max_registration)


def _check_size(name: str, payload: bytes, most: int) -> None:
    if len(payload) > most:
        raise PayloadTooLarge(f"{name}: {len(payload)} bytes are more than {most}")
