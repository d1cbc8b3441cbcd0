"""The work of comparing passwords with hashes, divided among addresses.

A comparison takes tenths of a second of a CPU, on purpose. So a client that guesses must not delay
the others: each address has one comparison at work, the addresses take turns, and those from which
a client was admitted before have a thread of their own.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from weakref import WeakValueDictionary

from mq9.server.passwords import PasswordHash

_THREADS = max(1, (os.cpu_count() or 1) // 2)  # the other CPUs are for other requests
_MOST_TRUSTED = 1_024  # addresses that are remembered

MakeThreads = Callable[[int, str], Executor]


class Guesses:
    """Compares passwords with hashes on threads, fairly among addresses.

    Args:
        make_threads: Makes an executor of so many threads with a name.
    """

    def __init__(self, make_threads: MakeThreads = ThreadPoolExecutor) -> None:
        self._strangers = make_threads(_THREADS, "mq9-passwords")
        self._trusted = make_threads(1, "mq9-known-addresses")
        self._addresses: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._right: OrderedDict[str, None] = OrderedDict()  # addresses, the last one newest

    async def is_right(self, password: str, kept: PasswordHash, address: str) -> bool:
        """Tell whether a password is right, when the address has its turn.

        Args:
            password: The password that the client sent.
            kept: The hash to compare it with.
            address: The client's IP address.
        """
        async with self._addresses.setdefault(address, asyncio.Lock()):
            threads = self._trusted if address in self._right else self._strangers
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, kept.matches, password)

    def trust(self, address: str) -> None:
        """Note that a client from an address was admitted."""
        self._right[address] = None
        self._right.move_to_end(address)
        if len(self._right) > _MOST_TRUSTED:
            self._right.popitem(last=False)
