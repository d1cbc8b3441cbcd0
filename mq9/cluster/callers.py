"""Clients that NATS authenticates, and the subjects of their requests."""

from __future__ import annotations

from typing import Protocol

from mq9.models import Identity
from mq9.protocol import subjects
from mq9.protocol.reserved import Reserved

# The subjects of callers, whom NATS authenticates.
CALLERS = f"{subjects.AS_CALLER}>"


class Callers(Protocol):
    """The users of a gateway whom NATS authenticates."""

    @property
    def reserved(self) -> Reserved | None:
        """Names and addresses of the configured agents; None if no agents are configured."""

    @property
    def has_callers(self) -> bool:
        """Whether there are any."""

    def caller(self, name: str) -> Identity | None:
        """Return the identity of a caller; None if it is unknown."""


class NoCallers:
    """No users: all clients are anonymous."""

    reserved = None
    has_callers = False

    def caller(self, _name: str) -> Identity | None:
        """Return None."""
        return None
