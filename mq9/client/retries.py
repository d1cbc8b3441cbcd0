"""Whether a request that failed is made again, and when."""

from __future__ import annotations

from mq9.errors import BrokerFailed, OutcomeUnknown, TooExpensive, Unavailable, Unreachable

_FIRST_PART = 8  # of the delay, for the first pause after the broker was unavailable


class Retries:
    """What becomes of one request after each failure.

    Args:
        is_repeatable: Whether the request may be made again when its reply was lost.
        most: How often it is made again.
        delay: Seconds before each repetition but the first, which is made at once. A broker that
            was unavailable is left alone for an eighth of that, and then twice as long each time.
    """

    def __init__(self, *, is_repeatable: bool, most: int, delay: float) -> None:
        self._is_repeatable = is_repeatable
        self._most = most
        self._delay = delay
        self._made = 0
        self._lost: OutcomeUnknown | None = None

    def after(self, error: Unavailable | Unreachable) -> float:
        """Return how many seconds to wait before the request is made again.

        Args:
            error: Why it failed this time.

        Raises:
            Mq9Error: It is not made again.
        """
        if isinstance(error, OutcomeUnknown):
            if self._is_last or not self._is_repeatable:
                raise error
            self._lost = error
        elif isinstance(error, TooExpensive):
            raise error
        elif self._is_last or isinstance(error, BrokerFailed):
            if self._lost is None:
                raise error
            # An earlier one was sent, whatever became of it.
            raise OutcomeUnknown(f"{self._lost}; since then {error}") from error
        self._made += 1
        if isinstance(error, OutcomeUnknown | Unreachable):
            return self._delay if self._made > 1 else 0.0
        return min(self._delay, self._delay / _FIRST_PART * 2.0 ** (self._made - 1))

    @property
    def _is_last(self) -> bool:
        return self._made == self._most
