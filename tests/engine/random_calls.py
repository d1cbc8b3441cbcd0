"""Random calls of every command on a few names; some refer to the results of earlier calls."""

from dataclasses import dataclass

import orjson

from mq9.engine import commands
from mq9.engine.commands import Actor, Call, Limits
from mq9.models import Deliver, MailboxType, Occasion, Priority, Promise, SendPolicy
from mq9.protocol import requests

ADDRESSES = ("box", "box", "box", "box", "state", "ada", "ada.dead")
AGENTS = ("ada", "bob", "cook")
GROUPS = ("g", "g", "h")
CONSUMERS = ("one", "two", "ada", "bob/1", None)
WORDS = ("soup", "stew", "grüße", "übersetzt 你好", "it's")
LEASES_MS = (1_000, 2_000, 60_000)
TTLS = (0, 0, 0, 5, 3_600)
START_MS = 1_700_000_000_400
STEPS_MS = (0, 0, 0, 1, 400, 1_000, 1_000, 3_000, 30_000)
RARE_STEPS_MS = (-1, -700, -5_000, -90_000, -86_400_000, 3_600_000, 8 * 86_400_000, 31 * 86_400_000)


@dataclass(frozen=True)
class Receipt:
    """The data of a FETCH reply that its client knows."""

    address: str
    group_name: str
    consumer: str | None
    request_id: str | None
    batch: str
    copy: int
    msg_ids: tuple[int, ...]


class RandomCalls:
    """A source of random calls and instants.

    Args:
        dice: An instance of `random.Random`.
    """

    def __init__(self, dice):
        self._dice = dice
        self._receipts = []
        self._tokens = 0
        self._newest = 0
        self._is_much_over = False
        self._now_ms = START_MS

    def instant(self):
        """Return the next instant, which is sometimes before the last one or long after it."""
        step = self._dice.choice(RARE_STEPS_MS if self._dice.random() < 0.02 else STEPS_MS)
        self._is_much_over = step >= 3_600_000
        self._now_ms += step
        return self._now_ms

    def call(self):
        """Return the next call."""
        if self._is_much_over:
            return self.sweep()
        weights, makers = zip(*COMMANDS.values(), strict=True)
        [make] = self._dice.choices(makers, weights)
        return make(self)

    def learn(self, call, value):
        """Remember the result of a call."""
        request = call.request
        if isinstance(request, requests.Send):
            self._newest = value or self._newest
        elif isinstance(request, requests.Fetch) and value is not None and value.batch is not None:
            receipt = Receipt(
                *(call.address, request.group_name, request.consumer, request.request_id),
                *(value.batch, value.copy, tuple(one.msg_id for one in value.messages)),
            )
            self._receipts = [*self._receipts[-7:], receipt]

    def _one(self, *values):
        return self._dice.choice(values)

    def _perhaps(self, *values, chance=0.3):
        return self._dice.choice(values) if self._dice.random() < chance else None

    def _id(self):
        return max(0, self._newest - self._dice.randint(-1, 8))

    def _receipt(self):
        """Return a known receipt, or sometimes an invented one."""
        if self._receipts and self._dice.random() < 0.9:
            return self._one(*self._receipts)
        group, consumer = self._one(*GROUPS), self._one(*CONSUMERS)
        return Receipt(self._one(*ADDRESSES), group, consumer, "r", "none-0", 1, (self._id(),))

    def _of(self, request, address="", payload=b""):
        self._tokens += 1
        agent, owner = self._perhaps(*AGENTS, chance=0.2), self._perhaps(*AGENTS, chance=0.1)
        own = ("ada", "bob") if agent == "ada" else ()
        closed, other_owner = self._dice.random() < 0.1, self._perhaps(*AGENTS, chance=0.1)
        dice = self._dice.random()
        actor = Actor(
            agent,
            owner,
            own,
            closed=closed,
            other_owner=other_owner,
            below="ada" if agent == "ada" else None,
            barred=agent is not None and dice < 0.1,
            is_stranger=agent is None and dice < 0.1,
        )
        return Call(
            request,
            address,
            actor,
            default_consumer=self._one("session.1", "session.2"),
            payload=payload,
            token=f"token{self._tokens}",
            generation=self._perhaps("token1", chance=0.02),
        )

    def create(self):
        request = requests.CreateMailbox(
            type=self._one(*MailboxType),
            ttl=self._one(*TTLS),
            desc=self._one("", *WORDS),
            public=self._one(True, False),
            renew=self._one(True, False),
            send_policy=self._one(*SendPolicy, SendPolicy.EVERYONE, SendPolicy.EVERYONE),
        )
        return self._of(request, self._one(*ADDRESSES))

    def drop(self):
        return self._of(requests.DropMailbox(), self._one(*ADDRESSES))

    def grant(self):
        lists = (None, (), ("bob",), ("cook", "bob"))
        request = requests.GrantMailbox(
            readers=self._one(*lists),
            viewers=self._one(*lists),
            senders=self._one(*lists),
            send_policy=self._one(*SendPolicy, SendPolicy.EVERYONE),
        )
        return self._of(request, self._one(*ADDRESSES))

    def send(self):
        delay = self._perhaps(1, 2, 60, chance=0.2)
        asks = self._dice.random() < 0.3
        often = 1.0 if asks else 0.3
        answer_by = self._now_ms // 1000 + self._one(-1, 1, 3, 60)
        request = requests.Send(
            priority=self._one(*Priority, Priority.NORMAL),
            key=self._perhaps("k", "l"),
            delay=delay,
            ttl=self._perhaps(1, 5, 3_600) if delay is None else self._perhaps(61, 600),
            tags=self._one((), ("x",), ("y", "x")),
            id=self._perhaps("i", "j", f"{self._tokens}"),
            sender=self._perhaps(*AGENTS),
            reply_to=self._perhaps("ada", "box", chance=often),
            correlation_id=self._perhaps("q", "r", chance=often),
            answer_by=self._perhaps(answer_by, chance=often),
            tell_overdue=asks,
            path=self._one((), ("ada", "bob")),
            headers=self._one((), (("traceparent", "00"), ("x-words", "你好"))),
            from_mailbox=self._perhaps(*ADDRESSES, chance=0.1),
        )
        payload = self._one(b"", b"a", "ü".encode(), bytes(range(256)), b"x" * 300)
        return self._of(request, self._one(*ADDRESSES), payload)

    def fetch(self):
        deliver = self._one(*Deliver, Deliver.EARLIEST, Deliver.EARLIEST)
        request = requests.Fetch(
            group_name=self._one(*GROUPS),
            consumer=self._one(*CONSUMERS),
            deliver=deliver,
            from_time=START_MS // 1000 + self._dice.randint(-5, 100),
            from_id=self._id(),
            force_deliver=self._dice.random() < 0.05,
            request_id=self._perhaps("r", "s", f"{self._tokens}"),
            num_msgs=self._one(1, 2, 5, 100),
            max_bytes=self._one(1, 600, 4_000_000, 4_000_000),
            lease_ms=self._one(*LEASES_MS),
            redeliver_own=self._one(True, True, False),
            begun=self._one(True, False),
        )
        return self._of(request, self._one(*ADDRESSES))

    def _confirm(self, kind, **fields):
        receipt = self._receipt()
        request = kind(
            group_name=receipt.group_name,
            consumer=receipt.consumer if self._dice.random() < 0.8 else self._one(*CONSUMERS),
            msg_id=self._one(*receipt.msg_ids, *receipt.msg_ids, self._id()),
            batch=self._one(receipt.batch, None),
            **fields,
        )
        return self._of(request, receipt.address)

    def ack(self):
        return self._confirm(requests.Ack, individual=self._one(True, False))

    def nack(self):
        delay_ms = self._one(0, 0, 500, 3_000)
        return self._confirm(requests.Nack, delay_ms=delay_ms, reason=self._perhaps(*WORDS))

    def move(self):
        to = self._one(*ADDRESSES, "dead")
        return self._confirm(requests.Move, to=to, reason=self._perhaps(*WORDS))

    def extend(self):
        receipt = self._receipt()
        request = requests.Extend(
            group_name=receipt.group_name,
            consumer=receipt.consumer,
            msg_ids=tuple(dict.fromkeys((*receipt.msg_ids, self._id()))),
            lease_ms=self._one(*LEASES_MS),
            begun=self._one(True, False, None),
            promise=self._perhaps(
                Promise(until=self._now_ms // 1000 + 2),
                Promise(until=self._now_ms // 1000 + 40, done=self._one(*WORDS)),
            ),
        )
        return self._of(request, receipt.address)

    def release(self):
        receipt = self._receipt()
        request = requests.Release(
            group_name=receipt.group_name,
            consumer=receipt.consumer,
            request_id=receipt.request_id or "r",
        )
        return self._of(request, receipt.address)

    def delete(self):
        return self._of(requests.Delete(msg_id=self._id()), self._one(*ADDRESSES))

    def cancel(self):
        delayed_id = self._dice.randint(1, 30)
        return self._of(requests.Cancel(delayed_id=delayed_id), self._one(*ADDRESSES))

    def notify(self):
        request = requests.Notify(
            host="claude-code",
            session=self._one("s", "t"),
            occasion=self._one(*Occasion),
            may_wake=self._one("everyone", "everyone", "known", ("ada",)),
            max_in_a_row=self._one(1, 3, 100),
            max_per_hour=self._one(2, 100),
            cooldown_s=self._one(0, 30),
        )
        return self._of(request, self._one(*ADDRESSES))

    def _who(self):
        who = {"name": self._perhaps(*AGENTS, chance=0.7), "mailbox": self._perhaps(*ADDRESSES)}
        return who if any(who.values()) else {"name": "cook", "mailbox": None}

    def register(self):
        who, ttl = self._who(), self._one(*TTLS)
        card = {**who, "ttl": ttl, "description": " ".join(self._dice.sample(WORDS, 2))}
        request = requests.Register(**who, ttl=ttl)
        return self._of(request, request.mail_address, orjson.dumps(card))

    def unregister(self):
        return self._of(requests.Unregister(**self._who()))

    def report(self):
        who = self._who()
        payload = orjson.dumps({**who, "load": self._dice.randint(0, 9)})
        return self._of(requests.Report(**who), payload=payload)

    def advance(self):
        return Call(commands.Advance(), self._one(*ADDRESSES))

    def undo(self):
        receipt = self._receipt()
        return Call(commands.Undo(batch=receipt.batch, copy=receipt.copy), receipt.address)

    def note_read(self):
        cursors = tuple(self._id() for _ in Priority)
        request = commands.NoteRead(group_name=self._one(*GROUPS), cursors=cursors)
        return self._of(request, self._one(*ADDRESSES))

    def claim(self):
        agents = self._dice.sample(AGENTS, 2)
        named = tuple((one, one) for one in agents)
        deep = self._one(True, False)
        return Call(commands.ClaimNames(names=named, addresses=named, with_sub_addresses=deep))

    def seen(self):
        return Call(commands.Seen(name=self._one(*AGENTS)))

    def sweep(self):
        return Call(commands.Sweep(most=self._one(1, 2, 5, 1_000)))

    def set_limits(self):
        limits = Limits(
            max_payload=self._one(200, 1_000, 1_000),
            max_registration=self._one(80, 1_000, 1_000),
            max_mailboxes=self._one(2, 100, 100),
            max_messages=self._one(5, 10, 30),
            max_bytes=self._one(1_000, 3_000, 10_000),
            max_agents=self._one(1, 3, 10),
            max_groups=self._one(1, 10, 10),
            max_ids=self._one(2, 10),
            max_redelivered=self._one(500, 5_000),
        )
        return Call(commands.SetLimits(limits=limits))


# Of every command how often it comes, and what makes it.
COMMANDS = {
    requests.CreateMailbox: (8, RandomCalls.create),
    requests.DropMailbox: (1, RandomCalls.drop),
    requests.GrantMailbox: (2, RandomCalls.grant),
    requests.Send: (30, RandomCalls.send),
    requests.Fetch: (22, RandomCalls.fetch),
    requests.Ack: (10, RandomCalls.ack),
    requests.Nack: (6, RandomCalls.nack),
    requests.Move: (4, RandomCalls.move),
    requests.Extend: (4, RandomCalls.extend),
    requests.Release: (3, RandomCalls.release),
    requests.Delete: (3, RandomCalls.delete),
    requests.Cancel: (3, RandomCalls.cancel),
    requests.Notify: (8, RandomCalls.notify),
    requests.Register: (6, RandomCalls.register),
    requests.Unregister: (2, RandomCalls.unregister),
    requests.Report: (3, RandomCalls.report),
    commands.Advance: (4, RandomCalls.advance),
    commands.Undo: (3, RandomCalls.undo),
    commands.NoteRead: (3, RandomCalls.note_read),
    commands.ClaimNames: (1, RandomCalls.claim),
    commands.Seen: (2, RandomCalls.seen),
    commands.Sweep: (4, RandomCalls.sweep),
    commands.SetLimits: (2, RandomCalls.set_limits),
}
