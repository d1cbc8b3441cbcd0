"""How a program that serves is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


def stop_on_signals(
    stop: Callable[[], object], numbers: Sequence[signal.Signals] = _NUMBERS
) -> None:
    """Call a function in the event loop at the first signal; the next one ends the process at once.

    Args:
        stop: What is called.
        numbers: The signals.
    """
    loop = asyncio.get_running_loop()

    def ask(_number: int, _frame: object) -> None:
        _end_at_once_on(numbers)
        loop.call_soon_threadsafe(stop)

    for one in numbers:
        signal.signal(one, ask)


@contextmanager
def ended_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Do the same while inside, also when the terminal is closed, unless a signal is ignored.

    Behind it any signal ends the process at once.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    known = [signal.Signals[one] for one in names if one in signal.Signals.__members__]
    numbers = [one for one in known if signal.getsignal(one) is not signal.SIG_IGN]
    stop_on_signals(stop, numbers)
    try:
        yield
    finally:
        _end_at_once_on(numbers)


def _end_at_once_on(numbers: Sequence[signal.Signals]) -> None:
    for one in numbers:
        signal.signal(one, signal.SIG_DFL)
