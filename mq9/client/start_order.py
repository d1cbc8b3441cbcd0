"""Programs may start in any order: a mailbox that does not exist yet is waited for, a while."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mq9.clock import Clock, sleep
from mq9.errors import MailboxNotFound

T = TypeVar("T")
_logger = logging.getLogger("mq9.client")

MOST_S = 10.0  # that a mailbox is waited for
_FIRST_PAUSE_S = 0.05  # doubled after each further look
_MOST_PAUSE_S = 1.0


def hint(mail_address: str) -> str:
    """Return how to make a mailbox that does not exist."""
    return f"Create it: mq9 create {mail_address}"


async def once_there(
    attempt: Callable[[], Awaitable[T]],
    mail_address: str,
    *,
    clock: Clock,
    seconds: float,
    on_missing: Callable[[str], None] = _logger.info,
) -> T:
    """Do something with a mailbox, and wait for the mailbox while it does not exist.

    Args:
        attempt: Does it; repeated as long as it raises ``MailboxNotFound``.
        mail_address: The mailbox.
        clock: The clock to go by.
        seconds: How long one may wait; a mailbox is waited for 10 s at most.
        on_missing: Called once, with a sentence, when the mailbox does not exist at first.

    Raises:
        MailboxNotFound: The mailbox still does not exist; the text says how to create it.
    """
    patience = max(0.0, min(seconds, MOST_S))
    deadline_ms = clock.monotonic_ms() + round(patience * 1000)
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except MailboxNotFound as error:
            left_s = (deadline_ms - clock.monotonic_ms()) / 1000
            if left_s <= 0:
                waited = f", after {patience:g} s" if patience else ""
                raise MailboxNotFound(f"{error}{waited}. {hint(mail_address)}") from error
            if pause == _FIRST_PAUSE_S:
                on_missing(
                    f"mailbox {mail_address} does not exist yet; waiting {patience:g} s for it. "
                    f"{hint(mail_address)}"
                )
        await sleep(clock, min(pause, left_s))
        pause = min(2 * pause, _MOST_PAUSE_S)
