"""Which batch token belongs to a fetched message: the client's memory of its FETCH replies."""

from __future__ import annotations

import threading
from collections import OrderedDict

from mq9.models import FetchResult

_MOST = 10_000  # tokens that are remembered


class Batches:
    """Remembers the token under which each message was fetched last, by consumer and by anyone.

    Usable from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: OrderedDict[tuple[str, str, int, str | None], str] = OrderedDict()

    def remember(
        self, mail_address: str, group_name: str, consumer: str, fetched: FetchResult
    ) -> None:
        """Note the token of a reply for each of its messages."""
        if fetched.batch is None:
            return
        with self._lock:
            for message in fetched:
                for who in (consumer, None):
                    key = (mail_address, group_name, message.msg_id, who)
                    self._tokens[key] = fetched.batch
                    self._tokens.move_to_end(key)
            while len(self._tokens) > _MOST:
                self._tokens.popitem(last=False)

    def token(
        self, mail_address: str, group_name: str, msg_id: int, consumer: str | None
    ) -> str | None:
        """Return the token of the latest reply that held the message, if it is remembered.

        Args:
            mail_address: The mailbox.
            group_name: The group.
            msg_id: The message.
            consumer: Who fetched it; None for whoever did so last.
        """
        return self._tokens.get((mail_address, group_name, msg_id, consumer))

    def forget(self, mail_address: str) -> None:
        """Forget a mailbox that was removed or created anew."""
        with self._lock:
            for key in [key for key in self._tokens if key[0] == mail_address]:
                del self._tokens[key]
