"""The sessions of conversations, kept on this machine: one file for each conversation."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from mq9 import directories

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")  # which no program takes for an option
_KEPT_S = 30 * 86_400  # since it was used last
_PAUSE_S = 0.2  # between looks whether another process has ended its turn


def is_session_id(text: str) -> bool:
    """Tell whether a text may be an argument as the id of a session."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Session:
    """The session of a conversation, while it is this process's turn.

    Attributes:
        id: The earlier session; None where there is none.
        descriptor: The open file of the conversation. It is another process's turn when nobody has
            it open any more.
    """

    id: str | None
    descriptor: int

    def store(self, session_id: str) -> None:
        """Remember a session for the next message of the conversation."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, session_id.encode(), 0)


class Sessions:
    """The sessions of an agent's conversations; the messages of each have their turns.

    Args:
        directory: Where they are kept.
        scope: What tells them from those of other agents and brokers.
    """

    def __init__(self, directory: Path, scope: str) -> None:
        self._directory = directory / hashlib.sha256(scope.encode()).hexdigest()[:16]
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def prepare(self) -> None:
        """Make the directory, and forget what has not been used for long."""
        directories.make_private(self._directory)
        for file in self._directory.iterdir():
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _KEPT_S:
                    file.unlink()

    @asynccontextmanager
    async def turn(self, conversation: str, first: str | None = None) -> AsyncIterator[Session]:
        """Wait until no other message of a conversation is worked on, on this machine.

        Args:
            conversation: The name of the conversation's file.
            first: The session that it begins with.
        """
        lock = self._turns.setdefault(conversation, asyncio.Lock())
        async with lock:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._directory / conversation, flags, 0o600)
            try:
                await _lock(descriptor)
                os.utime(descriptor)
                known = os.pread(descriptor, 1_000, 0).decode("utf-8", "replace")
                yield Session(known if is_session_id(known) else first, descriptor)
            finally:
                os.close(descriptor)


async def _lock(descriptor: int) -> None:
    """Lock an open file, which another process may have locked."""
    import fcntl  # noqa: PLC0415  # only Unix has it

    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(_PAUSE_S)
        else:
            return
