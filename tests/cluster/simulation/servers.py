"""NATS servers with one stream, and the connections to them, which lose and delay what they may.

A connection has what the log of a cluster uses of nats-py's client.
"""

import asyncio
import itertools
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import nats.errors
import orjson
from nats.js import api

from mq9.cluster.jetstream import NAME
from mq9.cluster.log import Logged

_WINDOW_MS = 120_000
_BATCH = 16
_BELIEVES_S = 12  # that it leads the stream, a server that is cut off from the others
_APART_S = 1e-6
_ACCOUNT = "$JS.API.INFO"
_CONSUME = f"$JS.API.CONSUMER.CREATE.{NAME}."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Message(NamedTuple):
    """What a connection brings."""

    data: bytes
    headers: dict
    subject: str = ""
    reply: str = ""


class Servers:
    """The stream, and who has it.

    Args:
        loop: Whose time passes.
        clock: Of the server that leads the stream.
        dice: Decides what goes wrong.
        on_stored: Called with each record as the stream stores it.
        on_event: Called whenever something comes over a connection.

    Attributes:
        trouble: How much goes wrong: 0 for nothing, 1 for as much as there may be.
        is_down: Whether there is no leader.
        first: The number of the first record that is there.
        most_together: The most records of one gateway that were on their way into the stream.
    """

    def __init__(self, loop, clock, dice, on_stored, on_event):
        self._loop = loop
        self._clock = clock
        self._dice = dice
        self._on_stored = on_stored
        self.on_event = on_event
        self._records = []
        self._ids = {}
        self._in_process = set()
        self._connections = []
        self._consumers = set()  # the inboxes to which they deliver
        self.inboxes = itertools.count()
        self.trouble = 0.0
        self.is_down = False
        self.first = 1
        self.most_together = 0

    def connect(self):
        connection = Connection(self, self._loop)
        self._connections.append(connection)
        return connection

    def leave(self, connection):
        self._connections.remove(connection)

    @property
    def last(self):
        return len(self._records)

    @property
    def size(self):
        """The bytes of all records."""
        return sum(len(one.data) for one in self._records[self.first - 1 :])

    def purge(self, before):
        """Forget what comes before a record."""
        self.first = max(self.first, before)

    def happens(self, chance):
        """Tell whether something goes wrong that may."""
        return self._dice.random() < chance * self.trouble

    def delay(self):
        """Return how many seconds it takes from a connection to a server, or back."""
        seconds = self._dice.uniform(0.0001, 0.001)
        if self.happens(0.1):
            seconds += self._dice.uniform(0.001, 0.2)
        if self.happens(0.01):
            seconds += self._dice.uniform(0.2, 8)
        return seconds

    def later(self, callback, *args):
        """Bring something to where it goes, or lose it."""
        if not self.happens(0.02):
            self._loop.call_later(self.delay(), self._bring, callback, args)

    def _bring(self, callback, args):
        self.on_event()
        callback(*args)

    def ask(self, subject, data, headers, answer):
        """Answer a request."""
        if self.is_down and subject.startswith("$JS.API.DIRECT.GET"):
            return
        if self.is_down:
            if self._dice.random() < 0.5:
                answer(nats.errors.NoRespondersError())
        elif subject == f"{NAME}.append":
            self._append(data, headers[api.Header.MSG_ID.value], answer)
        elif subject == _ACCOUNT:
            answer(_told(storage=self.size, limits={"max_storage": -1}))
        elif subject.startswith(_CONSUME):
            self._consumers.add(orjson.loads(data)["config"]["deliver_subject"])
            answer(_told(delivered={"stream_seq": self.last}))
        else:
            answer(self.info("leads", 0.5))

    def info(self, leader, silent_s):
        """What a server says of the stream.

        Args:
            leader: Who leads it, as far as it knows.
            silent_s: How long it has not heard the other servers.
        """
        kept = self._records[self.first - 1 :]
        told = {
            "config": {"max_bytes": -1},
            "state": {
                "first_seq": self.first,
                "first_ts": kept[0].stamp if kept else "0001-01-01T00:00:00Z",
                "last_seq": self.last,
                "messages": len(kept),
                "bytes": self.size,
            },
            "cluster": {"leader": leader, "replicas": [{"active": int(silent_s * 1e9)}] * 2},
            "ts": self._now().isoformat(),
        }
        return Message(orjson.dumps(told), {})

    def _now(self):
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    def _append(self, data, record_id, answer):
        known = self._ids.get(record_id)
        if known is not None and self._clock.monotonic_ms() - known[1] < _WINDOW_MS:
            answer(_told(seq=known[0], duplicate=True))
        elif record_id in self._in_process:
            answer(_told(error={"description": "duplicate message id is in process"}))
        elif self.happens(0.01):
            answer(_told(error={"description": "insufficient resources"}))
        else:
            self._in_process.add(record_id)
            gateway = record_id.rpartition(".")[0]
            together = sum(one.startswith(f"{gateway}.") for one in self._in_process)
            self.most_together = max(self.most_together, together)
            self._loop.call_later(self.delay(), self._store, data, record_id, answer)

    def _store(self, data, record_id, answer):
        self._in_process.remove(record_id)
        if self.is_down or self.happens(0.03):  # what was proposed is lost with the leader
            return
        self._ids[record_id] = self.last + 1, self._clock.monotonic_ms()
        answer(_told(seq=self.store(self.damaged(data))))

    def damaged(self, data):
        """What comes of data on its way, which nobody notices."""
        if not data or not self.happens(0.005):
            return data
        damaged = bytearray(data)
        # No two are damaged alike, by which what was stored damaged is told from others.
        damaged[self._dice.randrange(len(data))] ^= self._dice.randint(1, 255)
        return bytes(damaged)

    def store(self, data):
        """Store what somebody has published, and tell of it; its number."""
        stored = _Stored(self.last + 1, self._now().isoformat(), data)
        self._records.append(stored)
        self._on_stored(stored.logged)
        if self.happens(0.01):  # the server that had them ends
            self._consumers.clear()
        for connection in self._connections:
            connection.tell(stored.delivered, self._consumers)
        return stored.sequence

    def get(self, wanted, bring):
        """Bring records, and then that there are no more."""
        if self.is_down and self._dice.random() < 0.5:
            return
        self.give(wanted, bring, self.last)

    def give(self, wanted, bring, last):
        """Bring records up to one that a server has."""
        begin = max(wanted["seq"], self.first)
        if self.happens(0.3):  # a server that lags behind
            last -= self._dice.randint(0, 5)
        found = self._records[begin - 1 : min(last, begin - 1 + _BATCH)]
        for stored in found:
            if not self.happens(0.02):
                bring(stored.message._replace(data=self.damaged(stored.data)))
        bring(Message(b"", {api.Header.STATUS.value: "204" if found else "404"}))


class _CutOff:
    """The server that led the stream until it was cut off from the others."""

    def __init__(self, servers, loop):
        self._servers = servers
        self._loop = loop
        self._last = servers.last
        self._since = loop.time()

    def ask(self, subject, _data, _headers, answer):
        """Answer what can be answered alone, as it was."""
        if subject in {f"{NAME}.append", _ACCOUNT} or subject.startswith(_CONSUME):
            return
        silent_s = self._loop.time() - self._since
        told = self._servers.info("leads" if silent_s < _BELIEVES_S else None, silent_s)
        fields = orjson.loads(told.data)
        fields["state"]["last_seq"] = self._last
        answer(told._replace(data=orjson.dumps(fields)))

    def get(self, wanted, bring):
        """Bring records that it had then."""
        self._servers.give(wanted, bring, self._last)


class _Stored(NamedTuple):
    sequence: int
    stamp: str
    data: bytes

    @property
    def message(self):
        return Message(
            self.data, {"Nats-Sequence": str(self.sequence), "Nats-Time-Stamp": self.stamp}
        )

    @property
    def delivered(self):
        """How a consumer brings it."""
        nanoseconds = (
            (datetime.fromisoformat(self.stamp) - _EPOCH) // timedelta(microseconds=1) * 1000
        )
        reply = f"$JS.ACK.{NAME}.c.1.{self.sequence}.1.{nanoseconds}.0"
        return Message(self.data, {}, f"{NAME}.append", reply)

    @property
    def logged(self):
        now_ms = int(datetime.fromisoformat(self.stamp).timestamp() * 1000)
        return Logged(self.sequence, now_ms, self.data)


def _told(**fields):
    return Message(orjson.dumps(fields), {})


class Connection:
    """What the log uses of a client of nats-py."""

    def __init__(self, servers, loop):
        self._servers = servers
        self._loop = loop
        self._heard = {}  # what is called with what comes to an inbox
        self._hears_next_at = 0.0
        self._inboxes = {}
        self._server = servers
        self.is_closed = False

    def cut_off(self):
        """Be served by one server that the others do not reach."""
        self._server = _CutOff(self._servers, self._loop)

    def heal(self):
        """Be served by all of them again."""
        self._server = self._servers

    async def force_reconnect(self):
        """Be served by a server that the others reach."""
        self.heal()

    def close(self):
        """Bring nothing any more; what is on its way to the servers comes there."""
        self.is_closed = True
        self._servers.leave(self)

    def _later(self, callback, *args):
        if not self.is_closed:
            self._servers.later(callback, *args)

    async def request(self, subject, data, *, timeout, headers=None):
        reply = self._loop.create_future()

        def resolve(answer):
            if reply.done():
                return
            if isinstance(answer, Exception):
                reply.set_exception(answer)
            else:
                reply.set_result(answer)

        def answer(message):
            self._later(resolve, message)

        self._later(self._server.ask, subject, data, headers, answer)
        timer = self._loop.call_later(timeout, resolve, nats.errors.TimeoutError())
        try:
            return await reply
        finally:
            timer.cancel()

    def new_inbox(self):
        return f"_INBOX.{next(self._servers.inboxes)}"

    async def subscribe(self, subject, *, cb=None, max_msgs=0, pending_bytes_limit=0):
        if cb is not None:
            self._heard[subject] = cb
            return _Heard(self._heard, subject)
        inbox = self._inboxes[subject] = _Inbox(self._loop)
        return inbox

    async def publish(self, subject, data, *, reply):
        def bring(message):
            at = self._in_order(inbox.brings_next_at)
            inbox.brings_next_at = at
            self._loop.call_at(at, inbox.put, message)

        def bring_answer(answer):
            if not isinstance(answer, Exception):
                self._later(inbox.put, answer)

        inbox = self._inboxes[reply]
        if data:
            self._later(self._server.get, orjson.loads(data), bring)
        else:
            self._later(self._server.ask, subject, data, {}, bring_answer)

    def tell(self, message, consumers):
        """Tell of a record by those consumers, in order as a rule, if it is not lost."""
        for inbox in self._heard:
            if inbox in consumers and self._server is self._servers:
                self._tell(inbox, message)

    def _tell(self, inbox, message):
        times = 2 if self._servers.happens(0.05) else 1
        for _ in range(0 if self._servers.happens(0.05) else times):
            at = self._in_order(self._hears_next_at)
            if self._servers.happens(0.05):
                at += self._servers.delay()
            else:
                self._hears_next_at = at
            damaged = message._replace(data=self._servers.damaged(message.data))
            self._loop.call_at(at, self._hear, inbox, damaged)

    def _in_order(self, earliest):
        # Timers of the same instant run in any order.
        return max(earliest + _APART_S, self._loop.time() + self._servers.delay())

    def _hear(self, inbox, message):
        self._servers.on_event()
        if not self.is_closed and inbox in self._heard:
            # It has nothing to wait for.
            hearing = self._heard[inbox](message)
            try:
                hearing.send(None)
            except StopIteration:
                return
            raise AssertionError("it waits")


class _Heard:
    def __init__(self, heard, inbox):
        self._heard = heard
        self._inbox = inbox

    async def unsubscribe(self):
        del self._heard[self._inbox]


class _Inbox:
    def __init__(self, loop):
        self._loop = loop
        self._messages = deque()
        self._changed = asyncio.Event()
        self.brings_next_at = 0.0

    def put(self, message):
        self._messages.append(message)
        self._changed.set()

    async def next_msg(self, timeout):
        timer = self._loop.call_later(timeout, self._changed.set)
        try:
            if not self._messages:
                self._changed.clear()
                await self._changed.wait()
        finally:
            timer.cancel()
        if not self._messages:
            raise nats.errors.TimeoutError
        return self._messages.popleft()

    async def unsubscribe(self):
        """It is forgotten with the connection."""
