"""The room that JetStream leaves to the log, and the refusal of new mail when it runs short.

The last part is a reserve. Requests that free something use it: ACK, NACK, DELETE. So do snapshots,
behind which the log is trimmed.
"""

from __future__ import annotations

from mq9.cluster.log import Account, Last
from mq9.engine.commands import SendBatch
from mq9.errors import LimitReached
from mq9.protocol import requests
from mq9.protocol.body import Request

_PART = 10  # the reserve is this part of a limit
_MOST_RESERVE = 256 * 1024 * 1024
_RECORDS = 2  # of the largest size, which fit into the reserve if the limit has twice the room
_HEAD_BYTES = 200  # that JetStream stores with a record
_STREAM_FULL = 10077  # JetStream's code for a stream that cannot store a message
_ACCOUNT_FULL = 10002
SERVERS_FULL = 10023
_CURE = "Trim the log: `mq9 cluster snapshot`. Or raise the limit: {}"
_CURES = {
    "stream": _CURE.format("`nats stream edit MQ9 --max-bytes SIZE`"),
    "account": _CURE.format("`max_file` of the JetStream account"),
    "servers": _CURE.format("`max_file_store` of the NATS servers"),
}


class Room:
    """The room of a log at the last look, and the records since then."""

    def __init__(self, max_record: int) -> None:
        self.log: Last | None = None  # at the last look
        self._state_bytes = 0
        self._least = _RECORDS * max_record
        self._account: Account | None = None
        self._later = 0  # bytes of the records after the last look at the log
        self._later_here = 0  # and after that at the account
        self._refusal: str | None = None  # of JetStream itself, some seconds ago

    def note(self, last: Last) -> None:
        """Note the size of the log."""
        self.log = last
        self._later = 0

    def note_account(self, account: Account, state_bytes: int) -> None:
        """Note the size of the account, and that of the state, which a snapshot needs."""
        self._account, self._state_bytes = account, state_bytes
        self._later_here = 0

    def note_record(self, sequence: int, size: int) -> None:
        """Note a record of the log."""
        if self.log is not None and sequence > self.log.sequence:
            self._later += size + _HEAD_BYTES
        self._later_here += size + _HEAD_BYTES

    def note_refusal(self, refusal: str) -> None:
        """Note that JetStream has refused a record for lack of room."""
        self._refusal = refusal

    def try_again(self) -> None:
        """Let JetStream itself decide on new mail that it refused before."""
        self._refusal = None

    @property
    def is_short(self) -> bool:
        """Whether new mail is refused."""
        return self.shortage() is not None

    def check(self, request: Request[object]) -> None:
        """Raise LimitReached for a request that stores new mail, if only the reserve is left."""
        if _adds(request) and (shortage := self.shortage()) is not None:
            raise LimitReached(shortage)

    def shortage(self) -> str | None:
        """Return the limit that is near, and what to do; None if there is room."""
        if self._refusal is not None:
            return self._refusal
        if self.log is None:
            return None
        stream, account = self.log.max_bytes, self._account
        if stream is not None:
            used = self.log.bytes + self._later
            reserve = self._reserve(stream, 1)
            if used > stream - reserve:
                return _text("max_bytes of the stream MQ9", used, stream, reserve, "stream")
        if account is not None and account.most is not None:
            used = account.used + self._later_here * account.replicas
            # A snapshot is stored before an older one is removed. The state grows with the log.
            reserve = self._reserve(account.most, account.replicas)
            reserve += (self._state_bytes + self._later_here) * account.replicas
            if used > account.most - reserve:
                limit = "the storage of the JetStream account"
                return _text(limit, used, account.most, reserve, "account")
        return None

    def _reserve(self, most: int, replicas: int) -> int:
        """Return the bytes of a limit that new mail does not use."""
        least = self._least * replicas
        return min(max(most // _PART, least), most // 2, max(_MOST_RESERVE * replicas, least))


def _adds(request: Request[object]) -> bool:
    """Return whether a request stores new mail. The renewal of a mailbox keeps what is stored."""
    if isinstance(request, requests.CreateMailbox):
        return not request.renew
    return isinstance(request, requests.Send | SendBatch)


def _text(limit: str, used: int, most: int, reserve: int, cure: str) -> str:
    return (
        f"the log of the cluster is nearly full: {used} bytes of {most} are used ({limit}), and "
        f"the last {reserve} are kept for ACK, NACK, DELETE and snapshots; nothing was stored. "
        f"{_CURES[cure]}"
    )


def refusal_of(code: int, description: str) -> str | None:
    """Return the text for a record that JetStream refused for lack of room; None for others."""
    if code == _STREAM_FULL and "maximum" in description:
        limit, cure = "a limit of the stream MQ9", "stream"
    elif code == _ACCOUNT_FULL:
        limit, cure = "the storage of the JetStream account", "account"
    elif code == SERVERS_FULL:
        limit, cure = "the storage of the NATS servers", "servers"
    else:
        return None
    return (
        f"the log of the cluster is full: JetStream answers `{description}` ({limit}); nothing "
        f"was stored. {_CURES[cure]}"
    )
