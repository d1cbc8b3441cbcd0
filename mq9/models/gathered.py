"""The answers to several questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from mq9.errors import Mq9Error
from mq9.models.messages import Message, StoredMessage

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # whose variables have defaults

    M = TypeVar("M", bound=StoredMessage, default=Message)
else:
    from typing import TypeVar

    M = TypeVar("M", bound=StoredMessage)


class Gathered(list[M | None]):
    """The answers to several questions, in the order of the questions; None where none came.

    Attributes:
        correlation_ids: That of each question.
        refused: By its place, why a question could not be sent, or a ``RequestFailed`` where the
            agent that was asked gave it up. It is missing, too.
    """

    def __init__(
        self,
        answers: Iterable[M | None] = (),
        *,
        correlation_ids: Iterable[str] = (),
        refused: Mapping[int, Mq9Error] | None = None,
    ) -> None:
        super().__init__(answers)
        self.correlation_ids = tuple(correlation_ids)
        self.refused = dict(refused or {})

    @property
    def answers(self) -> list[M]:
        """The answers that came, in the order of their questions."""
        return [one for one in self if one is not None]

    @property
    def missing(self) -> list[int]:
        """The places of the questions that were not answered."""
        return [place for place, one in enumerate(self) if one is None]

    def __repr__(self) -> str:
        told = [f"refused={self.refused!r}"] if self.refused else []
        return f"Gathered({', '.join([super().__repr__(), *told])})"
