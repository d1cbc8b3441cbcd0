"""Which messages are handled at the same time: several together, or one alone."""

from __future__ import annotations

import asyncio

from mq9.client.consumer.handling import Handling


class Company:
    """Lets messages be handled together, and one that its worker has died of alone.

    It is entered when the handling begins or goes on, and left when it waits or ends.
    """

    def __init__(self) -> None:
        self._together = 0
        self._is_one_alone = False
        self._left = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being handled."""
        return not self._is_one_alone and not self._together

    async def enter(self, handling: Handling) -> None:
        """Return when the message may be handled; nobody has entered when this is cancelled."""
        while self._is_one_alone or (handling.is_alone and self._together):
            self._left.clear()
            await self._left.wait()
        if handling.is_alone:
            self._is_one_alone = True
        else:
            self._together += 1
        handling.is_at_work = True

    def leave(self, handling: Handling) -> None:
        """Let others go on; harmless for one that has not entered."""
        if not handling.is_at_work:
            return
        handling.is_at_work = False
        if handling.is_alone:
            self._is_one_alone = False
        else:
            self._together -= 1
        self._left.set()
