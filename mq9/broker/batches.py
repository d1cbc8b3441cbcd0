"""SENDs that wait for the same commit, gathered into batches."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from mq9.broker.asked import BrokerSession, Stopwatch, known_error
from mq9.broker.observer import OK, Observer
from mq9.broker.waiters import Waiters
from mq9.engine.commands import Call, Outcome, PlainSend, SendBatch, is_plain
from mq9.errors import LimitReached, Mq9Error
from mq9.protocol import headers
from mq9.protocol.headers import Headers
from mq9.protocol.requests import Send
from mq9.protocol.verbs import verb_of
from mq9.storage.backend import Backend

# Called with SENDs that were carried out together, and the msg_id or the error of each.
AnswerSends = Callable[[Sequence[PlainSend], Sequence[int | Mq9Error]], None]

_SEND = verb_of(Send).name
_MOST_SENDING = 10_000  # SENDs in batches; from then on only who has no batch may begin one


def plain_options(found: Headers) -> Send | None:
    """Return the options in the headers of a SEND; None if it is not plain, or to be refused."""
    try:
        read = headers.read(found)
        if headers.UNREAD in read.protocol or headers.ENCODING in read.protocol:
            return None
        options = Send.read(b"", read, None)
    except Mq9Error:
        return None
    return options if is_plain(options) else None


class SendBatches:
    """Begins SENDs on a backend that takes batches.

    A SEND joins the waiting batch of its client, if that is for the same mailbox. Any event loop
    may begin SENDs, and gets the outcomes of its own.
    """

    def __init__(self, backend: Backend, waiters: Waiters, observer: Observer) -> None:
        self._backend = backend
        self._waiters = waiters
        self._observer = observer
        self._lock = threading.Lock()
        # By client: the common fields of the SENDs in a batch, and the batch.
        self._open: dict[str, tuple[tuple[object, ...], SendBatch]] = {}
        self._sending = 0

    def begin(
        self,
        session: BrokerSession,
        address: str,
        sends: Sequence[PlainSend],
        answer: AnswerSends,
        is_wanted: Callable[[PlainSend], bool] | None = None,
    ) -> None:
        """Begin SENDs, behind all that their client has begun before.

        Args:
            session: The client, which `sends_plainly`.
            address: The mailbox.
            sends: The messages, with options that were checked.
            answer: Called on this event loop, perhaps before this returns, for parts of them.
            is_wanted: See `SendBatch`.
        """
        client = session.client
        common = (answer, address, session, asyncio.get_running_loop())
        begun = 0
        while begun < len(sends):
            added, batch = self._add(client, common, sends[begun:], is_wanted)
            if not added:
                error = LimitReached(f"the broker is busy: {_MOST_SENDING} requests are queued")
                self._observer.answered(_SEND, error.code, 0.0, len(sends) - begun)
                answer(sends[begun:], [error] * (len(sends) - begun))
                return
            begun += added
            if batch is not None:
                actor = session.actor(address, None, address)
                self._begin(Call(batch, address, actor, session.consumer), client, answer)

    def _add(
        self,
        client: str,
        common: tuple[object, ...],
        sends: Sequence[PlainSend],
        is_wanted: Callable[[PlainSend], bool] | None,
    ) -> tuple[int, SendBatch | None]:
        """Add SENDs to the batch that waits, or to a new one; how many, and the new one."""
        with self._lock:
            waiting, batch = self._open.get(client, (None, None))
            has_room = self._sending < _MOST_SENDING
            added = 0
            if has_room and batch is not None and waiting == common:
                added = batch.add(sends)
            # A client with nothing in the queue may always add a command.
            is_new = not added and (has_room or batch is None)
            if is_new:
                batch = SendBatch(is_wanted)
                added = batch.add(sends)
                self._open[client] = (common, batch)
            self._sending += added
            return added, batch if is_new else None

    def _begin(self, call: Call[SendBatch], client: str, answer: AnswerSends) -> None:
        told = partial(self._told, call, client, answer, Stopwatch())
        try:
            self._backend.begin(call, client, told)
        except Exception as failure:  # noqa: BLE001  # it is logged
            call.request.close()
            told(Outcome(None, known_error(_SEND, failure), 0))

    def close(self, client: str) -> None:
        """Let no more SENDs join the batch of a client, who has asked for something else."""
        if self._open:
            with self._lock:
                self._open.pop(client, None)

    def _told(
        self,
        call: Call[SendBatch],
        client: str,
        answer: AnswerSends,
        watch: Stopwatch,
        outcome: Outcome[Sequence[int | Mq9Error]],
    ) -> None:
        batch = call.request
        with self._lock:
            self._sending -= batch.added
            if self._open.get(client, (None, None))[1] is batch:
                del self._open[client]
        answers = outcome.value
        if answers is None:
            assert outcome.error is not None  # noqa: S101  # one or the other
            answers = [outcome.error] * len(batch.sends)
        codes = Counter([OK if isinstance(one, int) else one.code for one in answers])
        if codes[OK]:
            self._waiters.notify(call.address)
        for code, count in codes.items():
            self._observer.answered(_SEND, code, watch.seconds, count)
        answer(batch.sends, answers)
