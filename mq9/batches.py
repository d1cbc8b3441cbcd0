"""Which batch token belongs to a fetched message: the client's memory of its FETCH replies."""

from __future__ import annotations

from collections import OrderedDict

from mq9.models import FetchResult

_MOST = 10_000  # messages whose token is remembered


class Batches:
    """Remembers, per mailbox and group, the token under which each message was fetched last."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[tuple[str, str, int], str] = OrderedDict()

    def remember(self, mail_address: str, group_name: str, fetched: FetchResult) -> None:
        """Note the token of a reply for each of its messages."""
        if fetched.batch is None:
            return
        for message in fetched:
            key = (mail_address, group_name, message.msg_id)
            self._tokens[key] = fetched.batch
            self._tokens.move_to_end(key)
        while len(self._tokens) > _MOST:
            self._tokens.popitem(last=False)

    def token(self, mail_address: str, group_name: str, msg_id: int) -> str | None:
        """Return the token of the latest reply that held the message, if it is remembered."""
        return self._tokens.get((mail_address, group_name, msg_id))

    def forget(self, mail_address: str) -> None:
        """Forget a mailbox, because it is gone or was made anew."""
        for key in [key for key in self._tokens if key[0] == mail_address]:
            del self._tokens[key]
