"""A log in this process, for gateways that share an event loop."""

import asyncio

from mq9.cluster.log import Account, Last, Logged, Purged


class MemoryLog:
    """A log that keeps everything in a list, and takes the time from a clock.

    Args:
        clock: Tells when something is appended.

    Attributes:
        is_unheard: Whether nobody hears of what is appended.
    """

    def __init__(self, clock):
        self._clock = clock
        self._records = []
        self._ids = {}
        self._followers = []
        self._first = 1
        self.is_unheard = False

    async def append(self, data, record_id):
        if record_id not in self._ids:
            logged = Logged(len(self._records) + 1, self._clock.now_ms(), data)
            self._ids[record_id] = logged.sequence
            self._records.append(logged)
            for on_logged in () if self.is_unheard else self._followers:
                asyncio.get_running_loop().call_soon(on_logged, logged)
        return self._ids[record_id]

    async def last(self):
        return Last(len(self._records), self._clock.now_ms())

    async def account(self):
        return Account(0, None)

    def purge(self, before):
        """Forget what comes before a record."""
        self._first = before

    async def first(self):
        return self._first

    async def read(self, first):
        if first < self._first:
            raise Purged
        return self._records[first - 1 : first + 99]

    async def follow(self, on_logged):
        if on_logged not in self._followers:
            self._followers.append(on_logged)
        return len(self._records)
