"""What the log took, played through the model, and what clients were told, compared with it."""

import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, replace

from engine.model import Model, Refused

from mq9.cluster.records import NoRecord, decode
from mq9.engine import commands
from mq9.errors import Mq9Error
from mq9.protocol import replies, requests

GROUPS = ("g", "h")
_UNKNOWN = {"unavailable", "outcome_unknown", "not_connected"}
# Seconds from which on a request that reaches a gateway comes after one that reached another.
# It is the deadline, and twice the longest error of a gateway's clock.
PATIENCE_S = 8


class ClusterModel(Model):
    """The model, with FETCHes that are made undone later, and the engine's tokens."""

    def fetch(self, call, now):
        fetched = super().fetch(call, now)
        messages, token, until, more = fetched
        if token is None:
            return fetched
        mailbox = self.mailboxes[call.address]
        reply = mailbox.replies[token]
        if more is None:
            reply.copies += 1
            return fetched
        del mailbox.replies[token]
        reply.token = f"{mailbox.generation}-{mailbox.made_replies}"
        reply.copies = 1
        mailbox.made_replies += 1
        mailbox.replies[reply.token] = reply
        return [replace(one, batch=reply.token) for one in messages], reply.token, until, more

    def _make(self, *args):
        mailbox = super()._make(*args)
        mailbox.made_replies = 0
        return mailbox

    def undo(self, call, now):
        """Make a reply undone, unless it was given again since.

        One that is undone only after a later one of the same message was keeps its place in the
        count of deliveries.
        """
        mailbox = self.mailbox(call.address, now)
        reply = None if mailbox is None else mailbox.replies.get(call.request.batch)
        if reply is None or reply.copies != call.request.copy:
            return
        group = reply.group
        group.replies.remove(reply)
        del mailbox.replies[reply.token]
        for msg_id in reply.msg_ids:
            lease = group.leases.get(msg_id)
            if lease is None or lease.reply is not reply:
                continue
            before = [one for one in group.replies if msg_id in one.msg_ids]
            if before:
                lease.holder, lease.until_ms = None, 0
                lease.count -= 1
            else:
                del group.leases[msg_id]

    def sees(self, address):
        """Return what of a mailbox does not depend on the time: it is seen, or handed out."""
        mailbox = self.mailboxes[address]
        msg_ids = [mail.msg_id for mail in mailbox.stored]
        fresh = {
            name: any(group.wants(one) and one not in group.leases for one in msg_ids)
            for name, group in mailbox.groups.items()
        }
        return tuple(msg_ids), fresh


_METHODS = {
    requests.CreateMailbox: Model.create,
    requests.Send: Model.send,
    requests.Fetch: ClusterModel.fetch,
    requests.Ack: Model.ack,
    requests.Nack: Model.nack,
    requests.Extend: Model.extend,
    requests.Delete: Model.delete,
    commands.Undo: ClusterModel.undo,
}


@dataclass(eq=False)
class Asked:
    """A call that a client has begun, once.

    Attributes:
        call: The call; its token is of no other one, or else its payload.
        gateway: The name of the gateway that was asked.
        asker: With whose calls it is to be in order.
        number: Of the calls that asker began at that gateway, which one it is.
        since: The number of the last record of which somebody had been told something.
        begun_s: When it reached the gateway.
        before: Calls that the asker had begun there and that were not answered.
        answer: What the client was told; None until then.
        is_cancelled: Whether the gateway knows that nobody waits.
        ended: The number of the last record as it was answered.
    """

    call: object
    gateway: str
    asker: str
    number: int
    since: int
    before: list
    begun_s: float
    answer: object = None
    is_cancelled: bool = False
    ended: int | None = None


@dataclass(eq=False)
class Placed:
    """A call in the log, and what the model says to it."""

    sequence: int
    now_ms: int
    answer: object


class History:
    """All that happened.

    Args:
        limits: What the broker takes before somebody says so.
        steady: The mailboxes in which nothing falls due or expires.
        time: Tells how many seconds have passed.
        trace: Called with a line for each thing that happens.

    Attributes:
        model: The state after the last record.
        last: The number of the last record.
        told: The number of the last record of which somebody was told something.
        late: How many records came too late, and were skipped.
        digests: Of the state after a record, by its number.
    """

    def __init__(self, limits, steady, time, trace):
        self.model = ClusterModel(limits)
        self.last = 0
        self.told = 0
        self.late = 0
        self.digests = {}
        self.trace = trace
        self._steady = steady
        self._time = time
        self._placed_s = 0.0  # when the latest of the calls in the log was begun
        self._now_ms = 0
        self._asked = {}  # by the key of the call
        self._numbers = Counter()  # of calls, by gateway and asker
        self._open = defaultdict(list)  # calls that are not answered, by gateway and asker
        self._placed = {}  # by the key of the call
        self._latest = Counter()  # the number of the call that was placed last
        self._undone = set()  # batch tokens
        self._seen = defaultdict(list)  # of each mailbox, from which record on
        self._empty = []  # FETCHes that were answered and never were in the log
        self._sent = set()  # what clients were told of: mailbox, message,
        self._acked = {}  # mailbox, group, message: the record
        self._fetched = set()  # mailbox, group, message
        self._leases = defaultdict(list)  # consumer, from and until when
        self._loose = set()  # leases that their consumer lets go of

    def stored(self, logged):
        """Take what the log has stored."""
        assert logged.sequence == self.last + 1
        self.last = logged.sequence
        try:
            record = decode(logged.data)
        except NoRecord:
            return
        if record.is_late(logged.now_ms, self._now_ms):
            self.late += 1
            return
        if record.calls:
            self._now_ms = max(self._now_ms, logged.now_ms, record.at_ms)
        for call in record.read():
            self._apply(call)
        for address in self._steady:
            if address in self.model.mailboxes:
                seen = self.model.sees(address)
                versions = self._seen[address]
                if not versions or versions[-1][1] != seen:
                    versions.append((self.last, seen))

    def _apply(self, call):
        request = call.request
        if isinstance(request, commands.SetLimits):
            self.model.limits = request.limits
            return
        if isinstance(request, commands.Undo):
            self._undone.add(request.batch)
        method = _METHODS.get(type(request))
        if method is None:
            return
        try:
            answer = method(self.model, call, self._now_ms)
        except Refused as refused:
            answer = refused.code
        self.trace(f"record {self.last}: {call}: {answer}")
        if _key(call):
            self._place(call, answer)

    def _place(self, call, answer):
        assert _key(call) not in self._placed, f"{call} is twice in the log"
        asked = self._asked[_key(call)]
        _see_not_refused(asked)
        late_s = self._placed_s - asked.begun_s
        assert late_s < PATIENCE_S, f"{call} comes after one that was begun {late_s} s later"
        self._placed_s = max(self._placed_s, asked.begun_s)
        asker = asked.gateway, asked.asker
        latest = self._latest[asker]
        # What was said to have an unknown outcome may still be on its way.
        is_in_order = asked.number > latest or isinstance(asked.answer, Mq9Error)
        assert is_in_order, f"{call} comes after a later one of its asker"
        self._latest[asker] = max(latest, asked.number)
        self._placed[_key(call)] = Placed(self.last, self._now_ms, answer)

    def begin(self, call, gateway, asker):
        """Note that a call is begun."""
        self.trace(f"{gateway} is asked by {asker}: {call}")
        self._numbers[gateway, asker] += 1
        still = self._open[gateway, asker]
        number = self._numbers[gateway, asker]
        asked = Asked(call, gateway, asker, number, self.told, list(still), self._time())
        self._asked[_key(call)] = asked
        still.append(asked)
        return asked

    def end(self, asked, answer):
        """Note what a call came to at its gateway: an answer, or the error."""
        self.trace(f"{asked.gateway} answers {asked.asker}: {asked.call}: {answer!r}")
        asked.answer = answer
        if asked.call.token in self._placed:
            _see_not_refused(asked)
        asked.ended = self.last
        self._open[asked.gateway, asked.asker].remove(asked)

    def cancel(self, asked):
        """Note that nobody waits for a call any more, and that its gateway knows."""
        if asked.answer is None:
            self.trace(f"{asked.gateway} has nobody to answer: {asked.call}")
            asked.is_cancelled = True
            self._open[asked.gateway, asked.asker].remove(asked)

    def tell(self, asked):
        """Compare what a client is told with the model; return it in the client's words."""
        call, answer = asked.call, asked.answer
        self.trace(f"{asked.asker} is told by {asked.gateway}: {call}")
        placed = self._placed.get(_key(call))
        if isinstance(answer, Mq9Error) and answer.code in _UNKNOWN:
            return answer  # the outcome is unknown
        if isinstance(call.request, requests.Query):
            self._compare_query(asked)
        elif placed is not None:
            self.told = max(self.told, placed.sequence)
            self._compare(call, answer, placed)
        elif isinstance(answer, Mq9Error):
            assert answer.code == "limit_reached", f"{call}: {answer!r} is in no log"
        else:
            self._compare_empty(asked)
        if isinstance(answer, Mq9Error):
            return answer
        return self._in_words(asked, placed)

    def _compare(self, call, answer, placed):
        expected = placed.answer
        if isinstance(answer, Mq9Error):
            assert answer.code == expected, f"{call}: {answer!r}, not {expected!r}"
        elif isinstance(call.request, requests.Fetch):
            assert not isinstance(expected, str), f"{call}: {answer}, not {expected}"
            result = _told(answer, call.address)
            messages, token, until, more = expected
            found = list(result), result.batch, result.lease_until
            assert found == (messages, token, until), f"{call}: {found}, not {expected}"
            assert more is None or result.more == more, f"{call}: more is {result.more}"
        else:
            assert answer == expected, f"{call}: {answer!r}, not {expected!r}"

    def _compare_query(self, asked):
        """A query sees what was answered before it began, through whichever gateway."""
        address = asked.call.address
        found = tuple(one.msg_id for one in asked.answer.messages)
        states = self.states(address, asked.since, asked.ended)
        first = next((sequence for sequence, (msg_ids, _) in states if msg_ids == found), None)
        assert first is not None, f"{asked.call} since {asked.since}: {found}, not of {states}"
        self.told = max(self.told, first)

    def _compare_empty(self, asked):
        """A FETCH that was never in the log has found nothing, and there was nothing."""
        call = asked.call
        assert isinstance(call.request, requests.Fetch), f"{call} was answered and not applied"
        assert not asked.answer.messages, f"{call} was given what it has not leased"
        self._empty.append(asked)
        if call.address not in self._steady:
            return
        group = call.request.group_name
        states = self.states(call.address, asked.since, asked.ended)
        fresh = [fresh_of.get(group) for _, (_, fresh_of) in states]
        assert False in fresh, f"{call} since {asked.since} was given nothing, as if {fresh}"

    def states(self, address, since, until):
        """Return what was to be seen of a mailbox from one record to another, and from which on."""
        versions = self._seen[address]
        begin = bisect.bisect_right(versions, since, key=lambda one: one[0]) - 1
        end = bisect.bisect_right(versions, until, key=lambda one: one[0])
        return versions[max(0, begin) : end]

    def _in_words(self, asked, placed):
        call, answer = asked.call, asked.answer
        request = call.request
        if isinstance(request, requests.Send):
            if call.address in self._steady:
                self._sent.add((call.address, answer))
        elif isinstance(request, requests.Ack):
            for msg_id in answer:
                key = call.address, request.group_name, msg_id
                self._acked.setdefault(key, placed.sequence)
        elif isinstance(request, requests.Fetch):
            result = _told(answer, call.address)
            for message in result:
                key = call.address, request.group_name, message.msg_id
                acked = self._acked.get(key)
                assert acked is None or acked > asked.since, f"{call} was given {key}, acked"
                self._fetched.add(key)
                self._lease(key, request.consumer, placed.now_ms, result.lease_until * 1000)
            return result
        return answer

    def _lease(self, key, consumer, since_ms, until_ms):
        """Note what a client holds; nobody else was told the same of a time in between."""
        if (key, consumer) in self._loose:
            return
        for other, begun_ms, ends_ms in self._leases[key]:
            is_apart = other == consumer or until_ms <= begun_ms or ends_ms <= since_ms
            assert is_apart, f"{key} is leased to {consumer} and to {other}"
        self._leases[key].append((consumer, since_ms, until_ms))

    def give_back(self, key, consumer):
        """Note that a client lets go of what it holds, perhaps at once.

        And perhaps later, when it holds it again: its request may be on its way for long.
        """
        self._loose.add((key, consumer))
        self._leases[key] = [one for one in self._leases[key] if one[0] != consumer]

    def note_digest(self, sequence, digest):
        """Compare the digest of a copy of the state with those of others at the same record."""
        known = self.digests.setdefault(sequence, digest)
        assert digest == known, f"the state after record {sequence} differs from another gateway's"

    def finish(self, alive):
        """Compare what only shows when all is over.

        Args:
            alive: The names of the gateways that have been there until now.
        """
        for asked in self._empty:
            for earlier in asked.before:
                if isinstance(earlier.call.request, requests.Fetch):
                    continue  # for what finds nothing it makes no difference
                placed = self._placed.get(_key(earlier.call))
                if placed is not None and not isinstance(earlier.answer, Mq9Error | None):
                    assert placed.sequence <= asked.ended, f"{asked.call} overtook {earlier.call}"
        for key, placed in self._placed.items():
            asked = self._asked[key]
            if asked.gateway in alive and isinstance(asked.call.request, requests.Fetch):
                self._compare_undone(asked, placed)

    def _compare_undone(self, asked, placed):
        """What a FETCH leased whose asker was told nothing is leased no longer."""
        is_lost = asked.is_cancelled or isinstance(asked.answer, Mq9Error)
        if not is_lost or isinstance(placed.answer, str):
            return
        _, token, _, more = placed.answer
        if token is not None and more is not None:  # else somebody may hold what it was given
            assert token in self._undone, f"{asked.call} was not made undone"

    def open_sends(self):
        """Return the SENDs that were begun and not answered."""
        asked = [one for still in self._open.values() for one in still]
        return [one for one in asked if isinstance(one.call.request, requests.Send)]

    def compare_delivered(self):
        """Everything that a client was told is sent has been delivered to every group."""
        for address, msg_id in self._sent:
            for group in GROUPS:
                delivered = (address, group, msg_id) in self._fetched
                assert delivered, f"{msg_id} of {address} never came to {group}"


def _see_not_refused(asked):
    """See that a call of the log was not said to have changed nothing."""
    is_refused = isinstance(asked.answer, Mq9Error) and asked.answer.code == "unavailable"
    assert not is_refused, f"{asked.call} is in the log: {asked.answer}"


def _key(call):
    """Return what of a call no other one has; a SEND of a batch has no token."""
    return call.token or call.payload


def _told(fetched, address):
    return replies.messages_of(fetched, address)
