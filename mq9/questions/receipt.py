"""Receipts: how the asker tells the person who answered a question what became of the answer.

A receipt goes to the ``reply_to`` of the answer, under its ``correlation_id``. The receipt for an
accepted answer is ``{"type": "receipt", "outcome": "accepted"}``. For any other answer it is an
error answer with the fields ``outcome`` and ``by``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from mq9.client.error_answers import ErrorAnswer, Failure
from mq9.models import StoredMessage

RECEIPTS = "answer-receipts"  # the header of a question whose asker sends receipts
_TYPE = "receipt"


class Outcome(StrEnum):
    """What became of an answer.

    ``accepted``: It is the answer. ``refused``: It is not, and the question is still open.
    ``closed``: It is not, and the question is not open any more.
    """

    ACCEPTED = "accepted"
    REFUSED = "refused"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of an answer.

    Attributes:
        outcome: What became of it.
        text: Why it was not accepted.
        by: Who gave the accepted answer, if it was another one.
    """

    outcome: Outcome
    text: str | None = None
    by: str | None = None

    def body(self, answer: StoredMessage) -> dict[str, Any]:
        """Return the body of the message that tells it.

        Args:
            answer: The answer, as a group fetched it.
        """
        if self.outcome is Outcome.ACCEPTED:
            return {"type": _TYPE, "outcome": str(self.outcome)}
        failed = ErrorAnswer.of(answer, Failure.REJECTED, self.text or "").value()
        return (
            failed | {"outcome": str(self.outcome)} | ({} if self.by is None else {"by": self.by})
        )

    @classmethod
    def read(cls, message: StoredMessage) -> Self | None:
        """Return what a message says of an answer; None if it is no receipt.

        An error answer without an outcome comes from an asker that gave the answer up: the question
        is still open.
        """
        try:
            body = message.json()
        except ValueError:
            return None
        if not isinstance(body, dict):
            return None
        outcome = next((one for one in Outcome if one == body.get("outcome")), None)
        if body.get("type") == _TYPE:
            return None if outcome is None else cls(outcome=outcome)
        failed = ErrorAnswer.read(message)
        if failed is None:
            return None
        by = body.get("by")
        return cls(
            outcome=Outcome.CLOSED if outcome is Outcome.CLOSED else Outcome.REFUSED,
            text=failed.reason,
            by=by if isinstance(by, str) else None,
        )
