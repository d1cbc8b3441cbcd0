"""A model of mailboxes and agents: plain, slow, and without storage.

It is written from the protocol and not from the engine. It checks every message that a group could
get on every call, and plays due and expired messages one event after the other. It takes the
engine's calls and returns the public models, so that answers can be compared directly.
"""

import json
from collections import Counter
from dataclasses import dataclass, field, replace

from mq9.engine.commands import consumer_of
from mq9.models import (
    PRIORITIES,
    Deliver,
    Extended,
    GroupStatus,
    Leased,
    MailboxType,
    Message,
    Moved,
    Notice,
    Occasion,
    Promise,
    Removed,
    Standing,
    Unread,
    Waiting,
)
from mq9.protocol.outcomes import Created


class Refused(Exception):
    """The request is refused with this error code."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


@dataclass(eq=False)
class Mail:
    """A sent message, with a `msg_id` once it is visible."""

    sent: object
    payload: bytes
    due_ms: int
    expires_ms: int | None
    msg_id: int = -1
    delayed_id: int = 0
    visible_ms: int = 0
    moved: Moved | None = None

    @property
    def size(self):
        """Its counted size in its mailbox."""
        sent = self.sent
        texts = [sent.key, sent.sender, sent.correlation_id, *sent.tags]
        if self.moved is not None:
            texts += [self.moved.mailbox, self.moved.group, self.moved.by, self.moved.reason]
        return len(self.payload) + sum(len(text) for text in texts if text)

    def read(self, address, count=0, batch=None, deaths=0):
        """Return it as a reader sees it."""
        return Message(
            msg_id=self.msg_id,
            payload=self.payload,
            priority=self.sent.priority,
            create_time=self.visible_ms // 1000,
            key=self.sent.key,
            tags=self.sent.tags,
            sender=self.sent.sender,
            correlation_id=self.sent.correlation_id,
            moved=self.moved,
            answer_by=self.sent.answer_by,
            delivery_count=count,
            deaths=deaths,
            batch=batch,
            mail_address=address,
        )


@dataclass(eq=False)
class Lease:
    """The last holder of a message, and until when it holds the message; None after a NACK."""

    holder: str | None
    until_ms: int
    count: int
    reply: "Reply"
    begun: bool = False
    deaths: int = 0
    reason: str | None = None  # of the last NACK
    promise: Promise | None = None  # also of an earlier holder

    def deaths_by(self, now):
        """How many leases had ended by an instant while the message was handled."""
        return self.deaths + (self.begun and self.until_ms <= now)

    def is_of(self, consumer, now):
        return self.until_ms > now and self.holder == consumer

    def is_of_another(self, consumer, now):
        return self.until_ms > now and self.holder not in {None, consumer}


@dataclass(eq=False)
class Reply:
    """A FETCH reply with messages, and the later state of each message."""

    token: str
    group: "Group"
    consumer: str
    request_id: str | None
    msg_ids: list
    given_back: set = field(default_factory=set)
    confirmed: dict = field(default_factory=dict)  # msg_id: the id that the ACK named
    moved: dict = field(default_factory=dict)  # msg_id: the target, and the id of the copy


@dataclass(eq=False)
class Group:
    """A consumer group from its beginning or its last reset."""

    start: int
    requests: set  # consumer and request_id of each FETCH; a reset keeps them
    leases: dict = field(default_factory=dict)  # by msg_id; kept when they are over
    acked: set = field(default_factory=set)  # including moved ones
    moved: dict = field(default_factory=dict)  # msg_id: the target, the id and `moved` of the copy
    replies: list = field(default_factory=list)

    def wants(self, msg_id):
        """Tell whether the message must still be delivered or confirmed."""
        return msg_id >= self.start and msg_id not in self.acked

    def may_hand_out(self, msg_id, now, own=None):
        lease = self.leases.get(msg_id)
        return self.wants(msg_id) and (
            lease is None or lease.until_ms <= now or (own is not None and lease.is_of(own, now))
        )


@dataclass(eq=False)
class Mailbox:
    """A mailbox from its creation to its end."""

    address: str
    ttl_s: int
    expires_ms: int | None
    generation: str
    type: MailboxType
    stored: list = field(default_factory=list)  # by msg_id
    delayed: list = field(default_factory=list)  # as they were sent
    next_id: int = 0
    newest_ms: int = 0
    sent_ids: dict = field(default_factory=dict)
    groups: dict = field(default_factory=dict)
    replies: dict = field(default_factory=dict)  # by token, including those from before a reset
    removed: Counter = field(default_factory=Counter)  # by reason
    told: dict = field(default_factory=dict)  # session: the first unreported msg_id, turns in a row

    def settle(self, now):
        """Play all due events in their order."""
        while True:
            events = [(m.expires_ms, 0, m) for m in self.stored if m.expires_ms is not None]
            events += [(mail.due_ms, 1, mail) for mail in self.delayed]
            happened = [event for event in events if event[0] <= now]
            if not happened:
                return
            instant, falls_due, mail = min(happened, key=lambda event: event[:2])
            if falls_due:
                self.delayed.remove(mail)
                self.show(mail, instant)
            else:
                self.stored.remove(mail)
                self.removed["expired"] += 1

    def show(self, mail, instant):
        """Make a message visible and remove those that it replaces."""
        stored = self.remaining_after(mail)
        self.removed["replaced"] += len(self.stored) - len(stored)
        self.stored = stored
        self.newest_ms = max(self.newest_ms, instant)
        mail.visible_ms = self.newest_ms
        mail.msg_id = self.next_id
        self.next_id += 1
        self.stored.append(mail)

    def remaining_after(self, mail):
        """Return the messages that stay when a message becomes visible."""
        if self.type is MailboxType.LATEST:
            return []
        return [m for m in self.stored if mail.sent.key is None or m.sent.key != mail.sent.key]

    def find(self, msg_id):
        return next((mail for mail in self.stored if mail.msg_id == msg_id), None)

    def in_order(self):
        """Return the visible messages in the order of delivery."""
        return sorted(
            self.stored, key=lambda mail: (PRIORITIES.index(mail.sent.priority), mail.msg_id)
        )

    def position(self, start):
        """Return the first msg_id that a read with this start covers."""
        found = self.next_id
        if start.deliver is Deliver.EARLIEST:
            found = 0
        elif start.deliver is Deliver.LATEST and self.stored:
            found = self.stored[-1].msg_id
        elif start.deliver is Deliver.FROM_ID:
            found = min(start.from_id, self.next_id)
        elif start.deliver is Deliver.FROM_TIME:
            later = (m.msg_id for m in self.stored if m.visible_ms // 1000 >= start.from_time)
            found = next(later, self.next_id)
        return found

    def may_make_room(self, mail):
        """Tell whether a group has acked the message and no group still wants it."""
        groups = self.groups.values()
        return any(mail.msg_id in group.acked for group in groups) and not any(
            group.wants(mail.msg_id) for group in groups
        )

    def is_full(self, size, limits):
        sizes = [mail.size for mail in (*self.stored, *self.delayed)]
        return len(sizes) >= limits.max_messages or sum(sizes) + size > limits.max_bytes

    def chosen_reply(self, call):
        """Return the reply of an ACK or NACK; None if it succeeds without doing anything."""
        group = self.groups.get(call.request.group_name)
        if call.request.batch is not None:
            return self._reply_of_token(group, call)
        if group is not None:
            given = [reply for reply in group.replies if call.request.msg_id in reply.msg_ids]
            to_consumer = [reply for reply in given if reply.consumer == consumer_of(call)]
            if given and not to_consumer and call.request.consumer is not None:
                raise Refused("message_not_found")
            if given:
                return (to_consumer or given)[-1]
        if call.request.msg_id >= self.next_id or self.find(call.request.msg_id) is not None:
            raise Refused("message_not_found")
        return None

    def _reply_of_token(self, group, call):
        reply = self.replies.get(call.request.batch)
        if reply is None or reply.group not in self.groups.values():
            return None  # of an earlier mailbox, or from before a reset
        if reply.group is not group or call.request.msg_id not in reply.msg_ids:
            raise Refused("invalid_request")
        return reply


@dataclass(eq=False)
class Agent:
    """A registration, from its creation or replacement on."""

    key: str
    mailbox: Mailbox  # this very one; a later one at its address is not the agent's
    card: bytes
    ttl_s: int
    seen_ms: int
    status: str | None = None

    @property
    def expires_ms(self):
        return self.seen_ms + self.ttl_s * 1000 if self.ttl_s else None

    def shown(self):
        """Return it as other clients see it."""
        return self.key, self.mailbox.address, self.card, self.seen_ms, self.status


class Model:
    """A model of a broker's mailboxes and agents.

    Each method takes a call or query of the engine and the time.
    """

    def __init__(self, limits):
        self.limits = limits
        self.mailboxes = {}
        self.registered = {}  # by key
        self._tokens = 0
        self.delayed = 0  # number of messages sent with a delay so far

    def mailbox(self, address, now):
        """Return a mailbox that is up to date, or None."""
        mailbox = self.mailboxes.get(address)
        if mailbox is None or (mailbox.expires_ms is not None and mailbox.expires_ms <= now):
            return None
        mailbox.settle(now)
        return mailbox

    def _existing(self, address, now):
        mailbox = self.mailbox(address, now)
        if mailbox is None:
            raise Refused("mailbox_not_found")
        return mailbox

    def create(self, call, now):
        mailbox = self.mailbox(call.address, now)
        if mailbox is not None:
            if not call.request.renew:
                raise Refused("mailbox_exists")
            if mailbox.ttl_s:
                mailbox.expires_ms = now + mailbox.ttl_s * 1000
            return self._created(call, mailbox)
        request = call.request
        mailbox = self._make(call.address, request.ttl, now, call.token, request.type)
        return self._created(call, mailbox)

    def _created(self, call, mailbox):
        asked = call.request.type is not MailboxType.STANDARD
        return Created(call.address, mailbox.generation, mailbox.type if asked else None)

    def _make(self, address, ttl_s, now, generation, kind=MailboxType.STANDARD):
        if sum(1 for one in self.mailboxes if self.mailbox(one, now)) >= self.limits.max_mailboxes:
            raise Refused("limit_reached")
        expires_ms = now + ttl_s * 1000 if ttl_s else None
        self.mailboxes[address] = Mailbox(address, ttl_s, expires_ms, generation, kind)
        return self.mailboxes[address]

    def drop(self, call, now):
        self._existing(call.address, now)
        del self.mailboxes[call.address]

    def send(self, call, now):
        if len(call.payload) > self.limits.max_payload:
            raise Refused("payload_too_large")
        mailbox = self._existing(call.address, now)
        known = mailbox.sent_ids.get((call.agent, call.request.id))
        if known is not None:
            body, answer = known
            if body != call.payload:
                raise Refused("id_conflict")
            return answer
        expires_ms = None if call.request.ttl is None else now + call.request.ttl * 1000
        mail = Mail(call.request, call.payload, now + (call.request.delay or 0) * 1000, expires_ms)
        self._make_room(mailbox, mail)
        if call.request.delay:
            self.delayed += 1
            mail.delayed_id = self.delayed
            mailbox.delayed.append(mail)
        else:
            mailbox.show(mail, now)
        if call.request.id is not None:
            mailbox.sent_ids[call.agent, call.request.id] = (call.payload, mail.msg_id)
        return mail.msg_id

    def _make_room(self, mailbox, mail):
        kept = mailbox.stored
        removed = Counter()
        if not mail.sent.delay:
            mailbox.stored = mailbox.remaining_after(mail)
            removed["replaced"] = len(kept) - len(mailbox.stored)
        while mailbox.is_full(mail.size, self.limits):
            oldest = next(filter(mailbox.may_make_room, mailbox.stored), None)
            if oldest is None:
                mailbox.stored = kept
                raise Refused("mailbox_full")
            mailbox.stored = [m for m in mailbox.stored if m is not oldest]
            removed["evicted"] += 1
        mailbox.removed += removed

    def delete(self, call, now):
        mailbox = self._existing(call.address, now)
        mail = mailbox.find(call.request.msg_id)
        if mail is None:
            raise Refused("message_not_found")
        mailbox.stored.remove(mail)
        mailbox.removed["deleted"] += 1

    def cancel(self, call, now):
        mailbox = self._existing(call.address, now)
        kept = [one for one in mailbox.delayed if one.delayed_id != call.request.delayed_id]
        if len(kept) == len(mailbox.delayed):
            raise Refused("message_not_found")
        mailbox.delayed = kept
        mailbox.removed["deleted"] += 1

    def notify(self, call, now):
        mailbox, request = self._existing(call.address, now), call.request
        group = mailbox.groups.get(call.address, Group(0, set()))
        first, row = mailbox.told.get(request.session, (0, 0))
        new = [
            mail
            for mail in mailbox.stored
            if mail.msg_id >= first and group.may_hand_out(mail.msg_id, now)
        ]
        begins_turn = request.occasion in {Occasion.STOP, Occasion.IDLE}
        is_held = bool(new) and begins_turn and row >= request.max_in_a_row
        is_told = bool(new) and not is_held
        if is_told:
            first = new[-1].msg_id + 1
            row += begins_turn
        mailbox.told[request.session] = first, 0 if request.occasion is Occasion.PROMPT else row
        lanes = Counter(mail.sent.priority for mail in new)
        return Notice(
            told=is_told,
            new=Unread(*(lanes[priority] for priority in PRIORITIES)),
            unread=self.unread(call.address, call.address, now),
            others=len({mail.sent.sender for mail in new}),
            from_id=new[0].msg_id if new else None,
            to_id=new[-1].msg_id if new else None,
            held="in a row" if is_held else None,
        )

    def fetch(self, call, now):
        """Deliver: return the messages, the token, the end of the lease, whether there are more.

        The last value is None for a repeated reply.
        """
        mailbox = self._existing(call.address, now)
        group = mailbox.groups.get(call.request.group_name)
        request = (consumer_of(call), call.request.request_id)
        repeated = group is not None and call.request.request_id is not None
        repeated = repeated and request in group.requests
        if repeated:
            held = self._held_of_request(mailbox, group, request, now)
            if held is not None:
                return held
        if group is None or (call.request.force_deliver and not repeated):
            requests = set() if group is None else group.requests
            group = Group(mailbox.position(call.request), requests)
            mailbox.groups[call.request.group_name] = group
        group.requests.add(request)
        own = consumer_of(call) if call.request.redeliver_own else None
        ready = [m for m in mailbox.in_order() if group.may_hand_out(m.msg_id, now, own)]
        given = ready[: call.request.num_msgs]
        if not given:
            return [], None, None, False
        self._tokens += 1
        reply = Reply(
            f"reply {self._tokens}", group, *request, msg_ids=[mail.msg_id for mail in given]
        )
        group.replies.append(reply)
        mailbox.replies[reply.token] = reply
        until_ms = now + call.request.lease_ms
        for msg_id in reply.msg_ids:
            before = group.leases.get(msg_id)
            count, deaths, begun = 1, 0, call.request.begun
            if before is not None:
                count, deaths = before.count + 1, before.deaths_by(now)
                begun = begun and not deaths
                begun |= before.begun and before.is_of(consumer_of(call), now)
            lease = Lease(consumer_of(call), until_ms, count, reply, begun, deaths)
            if before is not None:
                lease.reason, lease.promise = before.reason, before.promise
            group.leases[msg_id] = lease
        messages = [self._leased(mailbox, group, mail.msg_id) for mail in given]
        return messages, reply.token, until_ms / 1000, len(ready) > len(given)

    def _held_of_request(self, mailbox, group, request, now):
        for reply in group.replies:
            if (reply.consumer, reply.request_id) == request:
                held = [
                    msg_id
                    for msg_id in reply.msg_ids
                    if mailbox.find(msg_id) is not None
                    and group.wants(msg_id)
                    and group.leases[msg_id].reply is reply
                    and group.leases[msg_id].is_of(reply.consumer, now)
                ]
                if held:
                    messages = [self._leased(mailbox, group, msg_id) for msg_id in held]
                    until_ms = min(group.leases[msg_id].until_ms for msg_id in held)
                    return messages, reply.token, until_ms / 1000, None
        return None

    def _leased(self, mailbox, group, msg_id):
        lease = group.leases[msg_id]
        mail = mailbox.find(msg_id)
        return mail.read(mailbox.address, lease.count, lease.reply.token, lease.deaths)

    def fetch_undone(self, call, now):
        """Apply the effects of a FETCH whose client is gone.

        They are at most the group itself, and renewed leases of its consumer.
        """
        mailbox = self._existing(call.address, now)
        group = mailbox.groups.get(call.request.group_name)
        if group is None:
            group = mailbox.groups[call.request.group_name] = Group(
                mailbox.position(call.request), set()
            )
        own = consumer_of(call) if call.request.redeliver_own else None
        ready = [m for m in mailbox.in_order() if group.may_hand_out(m.msg_id, now, own)]
        for mail in ready[: call.request.num_msgs]:
            lease = group.leases.get(mail.msg_id)
            if lease is not None and lease.is_of(consumer_of(call), now):
                lease.until_ms = now + call.request.lease_ms
                lease.begun |= call.request.begun and not lease.deaths

    def peek(self, call, now):
        """Read without a group; return the messages, and whether there are more."""
        mailbox = self._existing(call.address, now)
        wanted, start = call.request.fetch, call.request.position
        if start is None:
            start = mailbox.position(wanted)
        ready = [mail for mail in mailbox.in_order() if mail.msg_id >= start]
        given = ready[: wanted.num_msgs]
        return [mail.read(mailbox.address) for mail in given], len(ready) > len(given)

    def ack(self, call, now):
        mailbox = self._existing(call.address, now)
        reply = mailbox.chosen_reply(call)
        if reply is None:
            return ()
        group = reply.group
        named = call.request.msg_id
        acked = []
        for msg_id in reply.msg_ids[: reply.msg_ids.index(named) + 1]:
            if call.request.individual and msg_id != named:
                continue
            if reply.confirmed.get(msg_id) == named:
                acked.append(msg_id)
            elif (
                mailbox.find(msg_id) is not None
                and group.wants(msg_id)
                and not group.leases[msg_id].is_of_another(reply.consumer, now)
                and (msg_id == named or msg_id not in reply.given_back)
            ):
                group.acked.add(msg_id)
                reply.confirmed[msg_id] = named
                acked.append(msg_id)
        return tuple(acked)

    def move(self, call, now):
        """Move a message; return the id of its copy, or None if there was nothing to move."""
        mailbox = self._existing(call.address, now)
        reply = mailbox.chosen_reply(call)
        named = call.request.msg_id
        if reply is None:
            return None
        if named in reply.moved:
            to, copy = reply.moved[named]
            return copy if to == call.request.to else None
        mail = mailbox.find(named)
        group = reply.group
        if mail is None or not group.wants(named):
            return None
        if group.leases[named].is_of_another(reply.consumer, now):
            return None
        target = self._existing(call.request.to, now)
        moved = Moved(
            mailbox=call.address,
            group=call.request.group_name,
            msg_id=named,
            by=call.agent,
            by_verified=False,
            reason=call.request.reason,
            deliveries=group.leases[named].count,
            at=now / 1000,
            back=mail.moved is not None
            and not mail.moved.back
            and mail.moved.mailbox == call.request.to,
        )
        sent = replace(mail.sent, key=None, delay=None)
        copy = Mail(sent, mail.payload, now, None, moved=moved)
        self._make_room(target, copy)
        target.show(copy, now)
        group.acked.add(named)
        group.moved[named] = (call.request.to, copy.msg_id, moved)
        reply.confirmed[named] = named
        reply.moved[named] = (call.request.to, copy.msg_id)
        return copy.msg_id

    def nack(self, call, now):
        mailbox = self._existing(call.address, now)
        reply = mailbox.chosen_reply(call)
        if reply is None or mailbox.find(call.request.msg_id) is None:
            return
        lease = reply.group.leases[call.request.msg_id]
        if reply.group.wants(call.request.msg_id) and lease.is_of(reply.consumer, now):
            lease.holder = None
            lease.begun = False
            lease.reason, lease.promise = call.request.reason, None
            lease.until_ms = now + call.request.delay_ms
            for earlier in reply.group.replies:
                earlier.given_back.add(call.request.msg_id)

    def extend(self, call, now):
        mailbox = self._existing(call.address, now)
        group = mailbox.groups.get(call.request.group_name)
        extended, lost = [], []
        for msg_id in call.request.msg_ids:
            lease = None if group is None else group.leases.get(msg_id)
            if (
                lease is not None
                and mailbox.find(msg_id) is not None
                and group.wants(msg_id)
                and lease.is_of(consumer_of(call), now)
            ):
                lease.until_ms = now + call.request.lease_ms
                if call.request.begun is not None:
                    lease.begun = call.request.begun
                if call.request.promise is not None:
                    lease.promise = replace(call.request.promise, by=consumer_of(call))
                extended.append(msg_id)
            else:
                lost.append(msg_id)
        return Extended(tuple(extended), tuple(lost))

    def query(self, call, now):
        """Return the messages that match, and whether there are more."""
        mailbox = self._existing(call.address, now)
        found = [
            mail.read(mailbox.address)
            for mail in mailbox.stored
            if call.request.key in {None, mail.sent.key}
            and set(call.request.tags) <= set(mail.sent.tags)
            and call.request.correlation_id in {None, mail.sent.correlation_id}
            and (call.request.since is None or mail.visible_ms // 1000 >= call.request.since)
            and call.request.msg_id in {None, mail.msg_id}
        ]
        return tuple(found[-call.request.limit :]), len(found) > call.request.limit

    def unread(self, address, name, now):
        """Count the messages that a new consumer of the group could get now."""
        mailbox = self._existing(address, now)
        group = mailbox.groups.get(name, Group(0, set()))
        counts = dict.fromkeys(PRIORITIES, 0)
        for mail in mailbox.stored:
            counts[mail.sent.priority] += group.may_hand_out(mail.msg_id, now)
        return Unread(*counts.values())

    def group_status(self, address, name, now):
        mailbox = self._existing(address, now)
        pending = self.unread(address, name, now)
        group = mailbox.groups.get(name)
        if group is None:
            return GroupStatus(name, exists=False, pending=pending)
        moved = sum(mail.msg_id in group.moved for mail in mailbox.stored)
        acked = sum(mail.msg_id in group.acked for mail in mailbox.stored) - moved
        leased = self._leased_to_whom(mailbox, group, now)
        return GroupStatus(name, True, pending, leased, acked, moved)

    def removals(self, address, now):
        return Removed(**self._existing(address, now).removed)

    def _leased_to_whom(self, mailbox, group, now):
        ends = {}
        for mail in mailbox.stored:
            lease = group.leases.get(mail.msg_id)
            if lease is not None and group.wants(mail.msg_id) and lease.until_ms > now:
                ends.setdefault(lease.holder, []).append(lease.until_ms)
        leased = [
            Leased(holder, len(untils), min(untils) / 1000) for holder, untils in ends.items()
        ]
        return tuple(sorted(leased, key=lambda one: (one.until, one.consumer or "")))

    def message_life(self, address, msg_id, now):
        """Return the state of a stored message in each group."""
        mailbox = self._existing(address, now)
        if mailbox.find(msg_id) is None:
            return None
        return tuple(
            self._standing(mailbox, name, group, msg_id, now)
            for name, group in sorted(mailbox.groups.items())
        )

    def _standing(self, mailbox, name, group, msg_id, now):
        if msg_id < group.start:
            return Standing(group_name=name, state="skipped")
        if msg_id in group.moved:
            to, copy, moved = group.moved[msg_id]
            return Standing(group_name=name, state="moved", moved_to=to, moved_as=copy, moved=moved)
        if msg_id in group.acked:
            return Standing(group_name=name, state="acked")
        lease = group.leases.get(msg_id)
        if lease is not None and lease.until_ms > now:
            return Standing(
                group_name=name,
                state="leased" if lease.holder else "given_back",
                consumer=lease.holder,
                until=lease.until_ms / 1000,
                deliveries=lease.count,
                reason=lease.reason,
                promise=lease.promise,
            )
        pending = [
            mail.msg_id for mail in mailbox.in_order() if group.may_hand_out(mail.msg_id, now)
        ]
        return Standing(
            group_name=name,
            state="pending",
            deliveries=0 if lease is None else lease.count,
            ahead=pending.index(msg_id),
            reason=None if lease is None else lease.reason,
            promise=None if lease is None else lease.promise,
        )

    def why_empty(self, call, now):
        mailbox = self._existing(call.address, now)
        group = mailbox.groups.get(call.request.group_name)
        start = call.request.position if group is None else group.start
        moved = 0 if group is None else sum(m.msg_id in group.moved for m in mailbox.stored)
        acked = 0 if group is None else sum(m.msg_id in group.acked for m in mailbox.stored)
        return Waiting(
            stored=len(mailbox.stored),
            delayed=len(mailbox.delayed),
            next_due=min((mail.due_ms / 1000 for mail in mailbox.delayed), default=None),
            leased=() if group is None else self._leased_to_whom(mailbox, group, now),
            acked=acked - moved,
            moved=moved,
            skipped=sum(mail.msg_id < start for mail in mailbox.stored),
        )

    def register(self, call, now):
        mailbox = self.mailbox(call.address, now) or self._make(call.address, 0, now, call.token)
        key = call.request.name or call.address
        self.registered[key] = Agent(key, mailbox, call.payload, call.request.ttl, now)
        return call.address

    def unregister(self, call, now):
        del self.registered[self._named(call.request, now).key]

    def report(self, call, now):
        agent = self._named(call.request, now)
        said = json.loads(call.payload)
        told = {name: value for name, value in said.items() if name not in {"name", "mailbox"}}
        agent.status = json.dumps(told, separators=(",", ":"))
        agent.seen_ms = now

    def _named(self, request, now):
        """Return the agent at a mailbox, preferably with the name; else the agent of the name."""
        agents = self.agents(now)
        there = [one for one in agents if one.mailbox.address == request.mailbox]
        found = [
            *(one for one in there if one.key == request.name),
            *there,
            *(one for one in agents if one.key == request.name),
        ]
        if not found:
            raise Refused("agent_not_found")
        return found[0]

    def agents(self, now):
        """Return the living registrations, by key."""
        return [
            one
            for _, one in sorted(self.registered.items())
            if self.mailbox(one.mailbox.address, now) is one.mailbox
            and (one.expires_ms is None or one.expires_ms > now)
        ]

    def lives(self, key, now):
        """Note a sign of life of an agent."""
        for agent in self.agents(now):
            apart_ms = 1 if 0 < agent.ttl_s <= 3_600 else 1_000
            if agent.key == key and agent.seen_ms <= now - apart_ms:
                agent.seen_ms = now

    def ends(self):
        """Return the instants at which leases, mailboxes and registrations end, or ended."""
        yield from (one.expires_ms for one in self.registered.values() if one.ttl_s)
        for mailbox in self.mailboxes.values():
            if mailbox.expires_ms is not None:
                yield mailbox.expires_ms
            for group in mailbox.groups.values():
                yield from (lease.until_ms for lease in group.leases.values())

    def events(self):
        """Return the instants of all past and future timed events."""
        yield from self.ends()
        for mailbox in self.mailboxes.values():
            yield from (mail.due_ms for mail in mailbox.delayed)
            yield from (m.expires_ms for m in mailbox.stored if m.expires_ms is not None)
