"""Users and certificates of a running server, read again when their files change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from mq9.clock import Clock, sleep
from mq9.errors import InvalidRequest, Mq9Error
from mq9.protocol.reserved import Reserved
from mq9.server.settings import ServerSettings
from mq9.server.users import Guard, Users

logger = logging.getLogger("mq9.broker")

_LOOK_S = 2.0  # between two looks at the files

Stamp = tuple[int, int, int]


class Reloader:
    """Reads the users file and the certificate again, and applies them.

    A file that cannot be used changes nothing: the server keeps the former users, or the former
    certificate, and logs the reason.

    Args:
        settings: The settings of the server, which name the files.
        guard: The guard of the server, changed in place.
        tls: The TLS context of the server, changed in place.
        claim: Called with the names of the new users before these are admitted.
        apply: Called after each change of the users, in order.
        clock: The clock of the looks at the files.
    """

    def __init__(
        self,
        settings: ServerSettings,
        guard: Guard,
        tls: ssl.SSLContext | None,
        claim: Callable[[Reserved], Awaitable[None]],
        apply: Sequence[Callable[[], Awaitable[None]]],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._tls = tls
        self._claim = claim
        self._apply = apply
        self._clock = clock
        self.unclaimed: Reserved | None = None  # names that could not be claimed yet
        self._seen = self._stamps()
        self._at_work = asyncio.Lock()

    async def watch(self) -> None:
        """Reload after each change of a file, until cancelled."""
        while True:
            await sleep(self._clock, _LOOK_S)
            stamps = await asyncio.to_thread(self._stamps)
            if stamps != self._seen:
                await self.reload()
            if self.unclaimed is not None:
                await self._claim_again(self.unclaimed)

    async def _claim_again(self, reserved: Reserved) -> None:
        try:
            await self._claim(reserved)
        except Mq9Error as error:
            logger.warning("the names of the agents are still not claimed: %s", error)
        else:
            self.unclaimed = None

    async def reload(self) -> None:
        """Read the files, and apply them."""
        async with self._at_work:
            self._seen = await asyncio.to_thread(self._stamps)
            try:
                await self._reload_users()
            except Mq9Error as error:
                logger.warning("the users were not reloaded, and stay as they were: %s", error)
            try:
                if self._tls is not None:
                    await asyncio.to_thread(self._reload_certificate, self._tls)
            except InvalidRequest as error:
                logger.warning("the certificate was not reloaded, and stays as it was: %s", error)

    async def _reload_users(self) -> None:
        path = self._settings.users
        if path is None or not isinstance(self._guard, Users):
            return
        users = await asyncio.to_thread(Users.from_file, path)
        if users.has_the_users_of(self._guard):
            return
        if users.reserved is not None:
            await self._claim(users.reserved)
            self.unclaimed = None
        self._guard.become(users)
        for apply in self._apply:
            await apply()
        logger.info("users reloaded", extra={"path": str(path)})

    def _reload_certificate(self, tls: ssl.SSLContext) -> None:
        self._settings.tls()  # first into another context: an error leaves this one as it is
        certificate, key = self._settings.tls_cert, self._settings.tls_key
        if certificate is not None:
            tls.load_cert_chain(certificate, key)

    def _stamps(self) -> tuple[Stamp | None, ...]:
        settings = self._settings
        return tuple(map(_stamp, (settings.users, settings.tls_cert, settings.tls_key)))


def _stamp(path: Path | None) -> Stamp | None:
    """Return the time of change, the size and the inode of a file; None without one."""
    try:
        status = None if path is None else path.stat()
    except OSError:  # it is being replaced
        status = None
    return None if status is None else (status.st_mtime_ns, status.st_size, status.st_ino)
