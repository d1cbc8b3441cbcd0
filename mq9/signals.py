"""Signals that stop a program, or call a function of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

_HANG_UP = "SIGHUP"  # which Windows has not
_NAMES = ("SIGINT", "SIGTERM", _HANG_UP)


def has_terminal() -> bool:
    """Return whether the process has a terminal of its own, whose end sends SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True


def call_on_signal(name: str, function: Callable[[], object] | None) -> None:
    """Call a function in the event loop at each signal of a name; do nothing for None.

    A signal that is ignored stays ignored, as SIGHUP is by ``nohup``. Windows has not all signals.
    """
    number = getattr(signal, name, None)
    if number is None or signal.getsignal(number) is signal.SIG_IGN:
        return
    loop = asyncio.get_running_loop()

    def call(_number: int, _frame: object) -> None:
        if function is not None:
            loop.call_soon_threadsafe(function)

    signal.signal(number, call)


def stop_on_signals(
    stop: Callable[[], object], *, keep_ignored: Collection[str] = (_HANG_UP,)
) -> None:
    """Call a function in the event loop at the first signal.

    After that SIGINT and SIGTERM end the process at once. SIGHUP does not: a closed terminal sends
    it more than once.

    Args:
        stop: The function.
        keep_ignored: Names of signals that stay ignored, as SIGHUP is by ``nohup``.
    """
    loop = asyncio.get_running_loop()
    numbers = _handled(keep_ignored)

    def ask(_number: int, _frame: object) -> None:
        _end_at_once_on(numbers)
        loop.call_soon_threadsafe(stop)

    for number in numbers:
        signal.signal(number, ask)


@contextmanager
def ended_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Do the same while inside, but for any signal that is ignored.

    Behind it SIGINT and SIGTERM end the process at once.
    """
    numbers = _handled(_NAMES)
    stop_on_signals(stop, keep_ignored=_NAMES)
    try:
        yield
    finally:
        _end_at_once_on(numbers)


def _handled(keep_ignored: Collection[str]) -> list[signal.Signals]:
    """Return the signals to handle, without those that stay ignored."""
    return [
        number
        for number in signal.Signals
        if number.name in _NAMES
        and not (number.name in keep_ignored and signal.getsignal(number) is signal.SIG_IGN)
    ]


def _end_at_once_on(numbers: Collection[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN if number.name == _HANG_UP else signal.SIG_DFL)
