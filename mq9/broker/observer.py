"""What a broker tells whoever watches it."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Is told what a broker does, on the broker's event loop; must not block or raise."""

    def answered(self, verb: str, code: str, seconds: float) -> None:
        """A request was answered.

        Args:
            verb: Such as ``MSG.SEND``; ``unknown`` for a subject that carries none.
            code: ``ok``, or the code of the error.
            seconds: How long it took, without what a FETCH waited for mail.
        """

    def redelivered(self, count: int) -> None:
        """A FETCH delivered messages that had been delivered to that group before."""

    def dead_lettered(self) -> None:
        """A message was moved to another mailbox, and not back to where it came from."""


class Silent:
    """Watches nothing."""

    def answered(self, verb: str, code: str, seconds: float) -> None:
        """Say nothing."""

    def redelivered(self, count: int) -> None:
        """Say nothing."""

    def dead_lettered(self) -> None:
        """Say nothing."""
