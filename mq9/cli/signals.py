"""How a program that serves is told to stop."""

from __future__ import annotations

import asyncio
import signal


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set an event at the first SIGINT or SIGTERM; the next one ends the process at once."""
    loop = asyncio.get_running_loop()

    def ask(_number: int, _frame: object) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_DFL)  # the next one ends it at once
        loop.call_soon_threadsafe(stop.set)

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, ask)
