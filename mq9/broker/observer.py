"""The observer of a broker, such as its metrics."""

from __future__ import annotations

from typing import Protocol

OK = "ok"  # the code of a request that was carried out


class Observer(Protocol):
    """Gets the events of a broker, on its event loop; must not block or raise."""

    def answered(self, verb: str, code: str, seconds: float, count: int = 1) -> None:
        """Requests were answered together, after some seconds without the wait of a FETCH.

        The verb is such as ``MSG.SEND``, or ``unknown``; the code is ``ok`` or that of the error.
        """

    def redelivered(self, count: int) -> None:
        """A FETCH delivered messages that had been delivered to that group before."""

    def dead_lettered(self) -> None:
        """A message was moved to another mailbox, and not back to where it came from."""


class _Silent:
    def answered(self, verb: str, code: str, seconds: float, count: int = 1) -> None: ...

    def redelivered(self, count: int) -> None: ...

    def dead_lettered(self) -> None: ...


SILENT: Observer = _Silent()  # drops the events
