"""A backend behaves like the model of the contract for all calls in any order."""

import asyncio
import queue
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest
from calls import call
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from mq9.clock import SteadyClock
from mq9.discovery.index import AGENT_INDEX
from mq9.engine import agents, commands
from mq9.engine.commands import Call, Limits
from mq9.errors import Mq9Error
from mq9.models import Deliver, MailboxType, Occasion, Priority, Promise
from mq9.protocol import replies, requests
from mq9.storage import store
from mq9.storage.backend import DerivedQuery, InlineBackend
from mq9.storage.file_backend import FileBackend
from mq9.storage.store import Durability
from mq9.testing import ManualClock

from .model import Model, Refused

START_MS = 1_700_000_000_400  # not a whole second
STEPS = 60
EARLIEST = {"deliver": Deliver.EARLIEST}

addresses = st.sampled_from(["a", "a", "a", "b"])
perishable = st.sampled_from(["b", "b", "a"])
types = st.sampled_from([MailboxType.STANDARD, MailboxType.STANDARD, MailboxType.LATEST])
groups = st.sampled_from(["g", "g", "a"])  # notices count for the one named like its mailbox
consumers = st.sampled_from(["one", "two", "three"])
ids = st.integers(0, 12)
ages = st.integers(0, 7)  # of messages: 1 is the newest, 0 the next one
seconds = st.integers(START_MS // 1000 - 1, START_MS // 1000 + 40)
leases_ms = st.sampled_from([1_000, 2_000, 2_500, 5_000, 60_000])
keys = st.sampled_from([None, None, "k", "l"])
tags = st.sampled_from([(), ("x",), ("y", "x")])
questions = st.sampled_from([None, None, "q", "r"])
num_msgs = st.sampled_from([1, 2, 3, 100])
names = st.sampled_from(["one", "two", "s"])  # of agents: consumers and a sender are among them
SIGNS_OF_LIFE = (
    *(requests.Send, requests.Fetch, requests.Ack, requests.Nack, requests.Extend),
    requests.Move,
)
starts = st.one_of(
    st.just(EARLIEST),
    st.just({"deliver": Deliver.LATEST}),
    st.just({"deliver": Deliver.NEW}),
    st.builds(dict, deliver=st.just(Deliver.FROM_ID), from_id=ids),
    st.builds(dict, deliver=st.just(Deliver.FROM_TIME), from_time=seconds),
)


@dataclass(frozen=True)
class Receipt:
    """The data of a FETCH reply that its client knows."""

    address: str
    group: str
    consumer: str
    batch: str
    msg_ids: tuple[int, ...]


def answer_or_code(answer):
    """Return an answer unchanged, and a refusal as its code."""
    if isinstance(answer, Mq9Error):
        return answer.code
    if isinstance(answer, BaseException):
        raise answer
    return answer


class Comparison(RuleBasedStateMachine):
    """One backend and one model that get the same calls at the same instants."""

    receipts = Bundle("receipts")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock(START_MS / 1000)
        self.steady = SteadyClock(self.clock)
        self.backend = None
        self.lives = 0
        self.tokens = {}  # the engine's: the model's

    @initialize(
        target=receipts,
        messages=st.sampled_from([4, 8, 100]),
        size=st.sampled_from([12, 40, 1_000]),
        mailboxes=st.sampled_from([1, 2, 2]),
        type=types,
        priorities=st.lists(st.sampled_from(Priority), min_size=1, max_size=4),
        ttl=st.sampled_from([0, 5, 20]),
    )
    def begin(
        self,
        messages,
        size,
        mailboxes,
        type,  # noqa: A002  # the protocol's word
        priorities,
        ttl,
    ):
        self.limits = Limits(
            max_payload=4, max_messages=messages, max_bytes=size, max_mailboxes=mailboxes
        )
        self.backend = self.open_backend()
        self.model = Model(self.limits)
        self._create("a", type=type)
        self._register("a", name="one", ttl=ttl, payload=b'{"v":1}')
        for priority in priorities:
            command = call(requests.Send, "a", payload=b"m", priority=priority)
            self.carry_out(command, self.model.send)
        return self._fetch(
            call(requests.Fetch, "a", group_name="g", consumer="one", lease_ms=2_000)
        )

    def open_backend(self):
        """Return a new backend, with the limits and the clock of this comparison."""
        raise NotImplementedError

    def teardown(self):
        if self.backend is not None:
            self.runner.run(self.backend.close())
        self.runner.close()

    @property
    def now(self):
        return self.steady.now_ms()

    def pass_ms(self, by_ms):
        self.runner.run(self.clock.advance(by_ms / 1000))

    def apply(self, *calls):
        """Return what the backend answers to a command, or the code of its refusal.

        Several are begun together, which a file stores in one commit, and answered with a list.
        """

        async def run_all():
            tasks = [asyncio.create_task(self.backend.run(one, "asker")) for one in calls]
            return await asyncio.gather(*tasks, return_exceptions=True)

        answers = [answer_or_code(answer) for answer in self.runner.run(run_all())]
        return answers if len(calls) > 1 else answers[0]

    def undo(self, undo):
        """Take a FETCH reply back, and return once that is done."""
        self.backend.undo_soon(undo, "asker")

    def read(self, query):
        """Return the backend's answer to a query, or the code of its refusal."""
        try:
            return self.runner.run(self.backend.read(query))
        except Mq9Error as error:
            return error.code

    def expected(self, method, *arguments):
        """Return the model's answer, or the code of its refusal."""
        try:
            answer = method(*arguments, self.now)
        except Refused as refused:
            return refused.code
        if isinstance(arguments[0].request, SIGNS_OF_LIFE):
            self.model.lives(arguments[0].agent, self.now)
        return answer

    def msg_id(self, address, age):
        """Return the id that lies ``age`` before the next one."""
        mailbox = self.model.mailbox(address, self.now)
        return age if mailbox is None else max(0, mailbox.next_id - age)

    def for_model(self, command):
        """The same with the model's batch token in place of the engine's."""
        batch = getattr(command.request, "batch", None)
        if batch is None:
            return command
        return replace(command, request=replace(command.request, batch=self.tokens[batch]))

    def carry_out(self, command, method):
        """Carry out a command in both and compare the answers."""
        answer = self.apply(command)
        assert answer == self.expected(method, self.for_model(command))
        self.compare_state()
        return answer

    def compare_state(self):
        """Compare the visible state of both."""
        for address in ("a", "b"):
            query = call(requests.Query, address, limit=1_000)
            found = self.expected(self.model.query, query)
            assert self.found(query) == found
            if not isinstance(found, str):
                for group in ("g", "a"):
                    self.compare_group(address, group)
                for message in found[0]:
                    self.compare_message(address, message.msg_id)
        self.compare_agents()

    def found(self, query):
        answer = self.read(query)
        if isinstance(answer, str):
            return answer
        told = replies.messages_of(answer, query.address)
        return tuple(told), told.more

    def compare_group(self, address, group):
        unread = self.read(call(commands.CountUnread, address, group_name=group))
        assert unread == self.model.unread(address, group, self.now)
        status = self.read(call(requests.Status, address, group_name=group))
        expected = self.model.group_status(address, group, self.now)
        leased = sorted(status.group.leased, key=lambda one: (one.until, one.consumer or ""))
        assert replace(status.group, leased=tuple(leased)) == expected
        assert status.type is self.model.mailboxes[address].type
        assert status.removed == self.model.removals(address, self.now)

    def compare_message(self, address, msg_id):
        life = self.read(call(requests.Status, address, msg_id=msg_id)).message
        assert life.state == "stored"
        assert life.groups == self.model.message_life(address, msg_id, self.now)

    def compare_agents(self):
        def look(connection, now):
            return agents.by_key(connection, now, limit=10, offset=0)

        shown = [
            (one.key, one.mailbox, one.registered, one.seen_ms, one.status)
            for one in self.read(Call(DerivedQuery(look)))
        ]
        assert shown == [one.shown() for one in self.model.agents(self.now)]

    def _create(self, address, **options):
        self.lives += 1
        command = call(requests.CreateMailbox, address, token=f"life{self.lives}", **options)
        self.carry_out(command, self.model.create)

    @rule(address=perishable, ttl=st.sampled_from([0, 15]), renew=st.booleans(), type=types)
    def create(self, address, **options):
        self._create(address, **options)

    @rule(address=perishable, ttl=st.sampled_from([0, 0, 15, None]), type=types)
    def drop(self, address, ttl, type):  # noqa: A002  # the protocol's word
        """Drop a mailbox and usually create it again."""
        self.carry_out(call(requests.DropMailbox, address), self.model.drop)
        if ttl is not None:
            self._create(address, ttl=ttl, type=type)

    @rule(
        address=addresses,
        payload=st.sampled_from([b"", b"x", b"yy", b"yy", b"zzzzz"]),
        priority=st.sampled_from(Priority),
        key=keys,
        delay=st.sampled_from([0, 0, 1, 2, 5]),
        lasts_s=st.sampled_from([None, None, 1, 2, 5]),
        tags=tags,
        correlation_id=questions,
        id=st.sampled_from([None, None, None, "i", "j"]),
        sender=st.sampled_from([None, "s"]),
        answer_by=st.sampled_from([None, 1_900_000_000]),
    )
    def send(self, address, delay, lasts_s, **options):
        ttl = None if lasts_s is None else delay + lasts_s
        command = call(requests.Send, address, delay=delay, ttl=ttl, **options)
        self.carry_out(command, self.model.send)

    @rule(
        address=addresses,
        sent=st.lists(
            st.tuples(st.sampled_from(Priority), keys, st.sampled_from([0, 0, 0, 1, 2])),
            min_size=2,
            max_size=4,
        ),
        by_ms=st.sampled_from([0, 0, 1_000, 5_000]),
    )
    def send_some(self, address, sent, by_ms):
        """Send several at once, and compare at once or when the delayed ones are due."""
        sends = []
        for priority, key, delay in sent:
            ttl = delay + 1 if delay and key == "k" else None
            options = {"priority": priority, "key": key, "delay": delay, "ttl": ttl}
            sends.append(call(requests.Send, address, payload=b"m", **options))
        assert self.apply(*sends) == [self.expected(self.model.send, one) for one in sends]
        self.pass_ms(by_ms)
        self.compare_state()

    @rule(
        target=receipts,
        address=addresses,
        group_name=groups,
        consumer=consumers,
        start=starts,
        num_msgs=num_msgs,
        lease_ms=leases_ms,
        redeliver_own=st.booleans(),
        begun=st.booleans(),
    )
    def fetch(self, address, start, **options):
        return self._fetch(call(requests.Fetch, address, **start, **options))

    @rule(target=receipts, receipt=receipts, consumer=consumers, num_msgs=num_msgs)
    def fetch_what_another_lost(self, receipt, consumer, num_msgs):
        """Wait until the leases of a reply are over, and fetch, perhaps for another consumer."""
        self.pass_ms(5_000)
        options = {"group_name": receipt.group, "consumer": consumer, "num_msgs": num_msgs}
        fetch = call(requests.Fetch, receipt.address, begun=True, **options)
        return self._fetch(fetch)

    @rule(target=receipts, group=groups, consumer=consumers, num_msgs=num_msgs, start=starts)
    def fetch_anew(self, group, consumer, num_msgs, start):
        fetch = call(
            requests.Fetch,
            "a",
            group_name=group,
            consumer=consumer,
            force_deliver=True,
            num_msgs=num_msgs,
            lease_ms=5_000,
            **start,
        )
        return self._fetch(fetch)

    @rule(
        target=receipts,
        group=groups,
        consumer=st.sampled_from(["one", "two"]),
        force=st.booleans(),
        num_msgs=num_msgs,
        lease_ms=leases_ms,
    )
    def fetch_under_a_request_id(self, group, consumer, force, num_msgs, lease_ms):
        fetch = call(
            requests.Fetch,
            "a",
            group_name=group,
            consumer=consumer,
            request_id="reset" if force else "usual",
            force_deliver=force,
            num_msgs=num_msgs,
            lease_ms=lease_ms,
        )
        return self._fetch(fetch)

    def _fetch(self, fetch):
        answer = self.apply(fetch)
        expected = self.expected(self.model.fetch, fetch)
        if isinstance(answer, str):
            assert answer == expected
            return multiple()
        result = self.result_of(answer, fetch.address)
        messages, token, lease_until, more = expected
        assert (result.batch is None) == (token is None)
        if token is not None:
            assert self.tokens.setdefault(result.batch, token) == token
        found = [replace(message, batch=self.tokens[message.batch]) for message in result]
        assert (found, result.lease_until) == (messages, lease_until)
        if more is not None:
            assert result.more == more
        self.compare_state()
        if not result:
            self.compare_emptiness(answer, fetch.address, fetch.request.group_name)
            return multiple()
        return Receipt(
            fetch.address,
            fetch.request.group_name,
            fetch.request.consumer,
            result.batch,
            tuple(message.msg_id for message in result),
        )

    @staticmethod
    def result_of(fetched, address):
        """Return the reply as a client reads it."""
        return replies.messages_of(fetched, address)

    def compare_emptiness(self, fetched, address, group):
        """Check the reason of an empty answer, and the instant to look again."""
        query = call(commands.WhyEmpty, address, group_name=group, position=fetched.position)
        assert self.read(query) == self.model.why_empty(query, self.now)
        mailbox = self.model.mailbox(address, self.now)
        change_ms = min((mail.due_ms for mail in mailbox.delayed), default=None)
        if change_ms is not None:
            assert self.now < fetched.next_change_ms <= change_ms

    @rule(
        address=addresses,
        group_name=groups,
        consumer=consumers,
        start=starts,
        num_msgs=num_msgs,
        redeliver_own=st.booleans(),
        begun=st.booleans(),
    )
    def fetch_and_vanish(self, address, start, **options):
        fetch = call(requests.Fetch, address, **start, **options)
        answer = self.apply(fetch)
        expected = self.expected(self.model.fetch_undone, fetch)
        if isinstance(answer, str):
            assert answer == expected
            return
        undo = commands.undo_of(fetch, answer)
        if undo is not None:
            self.undo(undo)
        self.compare_state()

    @rule(
        start=starts,
        position=st.none() | ids,
        num_msgs=num_msgs,
        key=keys,
        tags=tags,
        correlation_id=questions,
        since=st.none() | seconds,
        msg_id=st.none() | st.none() | ids,
    )
    def look(self, start, position, num_msgs, **filters):
        """Read without a group, and query."""
        query = call(requests.Query, "a", limit=num_msgs, **filters)
        assert self.found(query) == self.expected(self.model.query, query)
        wanted = requests.Fetch(num_msgs=num_msgs, **start)
        peek = call(commands.Peek, "a", fetch=wanted, position=position)
        answer = self.read(peek)
        expected = self.expected(self.model.peek, peek)
        if isinstance(answer, str):
            assert answer == expected
            return
        result = self.result_of(answer, "a")
        assert (list(result), result.more) == expected
        if not result:
            self.compare_emptiness(answer, "a", None)

    @staticmethod
    def confirm(kind, address, consumer, for_group, **fields):
        """Confirm or give back, as a named consumer or for the group."""
        if for_group:
            return call(kind, address, connection=consumer, **fields)
        return call(kind, address, consumer=consumer, **fields)

    @rule(
        receipt=receipts,
        place=st.integers(-1, 3),
        consumer=st.none() | consumers,
        for_group=st.booleans(),
        with_token=st.booleans(),
        individual=st.sampled_from([False, False, True]),
    )
    def ack(self, receipt, place, consumer, for_group, with_token, individual):
        """Confirm fetched messages, perhaps as another consumer; -1 is the last of the reply."""
        command = self.confirm(
            requests.Ack,
            receipt.address,
            consumer or receipt.consumer,
            for_group,
            group_name=receipt.group,
            msg_id=receipt.msg_ids[min(place, len(receipt.msg_ids) - 1)],
            batch=receipt.batch if with_token else None,
            individual=individual,
        )
        answer = self.carry_out(command, self.model.ack)
        if not isinstance(answer, str):
            assert self.carry_out(command, self.model.ack) == answer

    @rule(
        verb=st.sampled_from([requests.Ack, requests.Nack]),
        receipt=st.none() | receipts,
        address=addresses,
        group=groups,
        age=ages,
        consumer=consumers,
        for_group=st.booleans(),
    )
    def ack_or_nack_anything(self, verb, receipt, address, group, age, consumer, for_group):
        """Name any message of any group, perhaps with a token that does not belong to it."""
        command = self.confirm(
            verb,
            address,
            consumer,
            for_group,
            group_name=group,
            msg_id=self.msg_id(address, age),
            batch=None if receipt is None else receipt.batch,
        )
        self.carry_out(command, self.model.ack if verb is requests.Ack else self.model.nack)

    @rule(
        receipt=receipts,
        place=st.integers(0, 3),
        consumer=st.none() | consumers,
        for_group=st.booleans(),
        with_token=st.booleans(),
        delay_ms=st.sampled_from([0, 500, 1_000, 3_000]),
        reason=st.none() | st.just("why"),
    )
    def nack(self, receipt, place, consumer, for_group, with_token, **options):
        command = self.confirm(
            requests.Nack,
            receipt.address,
            consumer or receipt.consumer,
            for_group,
            group_name=receipt.group,
            msg_id=receipt.msg_ids[min(place, len(receipt.msg_ids) - 1)],
            batch=receipt.batch if with_token else None,
            **options,
        )
        self.carry_out(command, self.model.nack)

    @rule(
        receipt=receipts,
        place=st.integers(0, 3),
        consumer=st.none() | consumers,
        for_group=st.booleans(),
        with_token=st.booleans(),
        to=st.sampled_from(["a", "b", "b"]),
        reason=st.none() | st.just("why"),
    )
    def move(self, receipt, place, consumer, for_group, with_token, to, reason):
        """Move a fetched message, perhaps as another consumer, and repeat it."""
        if to == receipt.address:
            return
        command = self.confirm(
            requests.Move,
            receipt.address,
            consumer or receipt.consumer,
            for_group,
            group_name=receipt.group,
            msg_id=receipt.msg_ids[min(place, len(receipt.msg_ids) - 1)],
            batch=receipt.batch if with_token else None,
            to=to,
            reason=reason,
        )
        expected = self.for_model(command)
        for _ in range(2):
            answer = self.apply(command)
            copy = answer if isinstance(answer, str) else answer.msg_id
            assert copy == self.expected(self.model.move, expected)
            self.compare_state()

    @rule(
        receipt=receipts,
        others=st.lists(ages, max_size=2),
        lease_ms=leases_ms,
        begun=st.sampled_from([None, True, False]),
        promise=st.sampled_from([None, Promise(until=9), Promise(until=8, done="half")]),
    )
    def extend(self, receipt, others, **options):
        msg_ids = [*receipt.msg_ids, *(self.msg_id(receipt.address, age) for age in others)]
        command = call(
            requests.Extend,
            receipt.address,
            group_name=receipt.group,
            consumer=receipt.consumer,
            msg_ids=tuple(dict.fromkeys(msg_ids)),
            **options,
        )
        self.carry_out(command, self.model.extend)

    @rule(address=addresses, age=ages)
    def delete(self, address, age):
        command = call(requests.Delete, address, msg_id=self.msg_id(address, age))
        self.carry_out(command, self.model.delete)

    @rule(address=addresses, age=ages)
    def cancel(self, address, age):
        command = call(requests.Cancel, address, delayed_id=max(1, self.model.delayed - age))
        self.carry_out(command, self.model.cancel)

    @rule(
        address=addresses,
        session=consumers,
        occasion=st.sampled_from(Occasion),
        row=st.integers(0, 2),
    )
    def notify(self, address, session, occasion, row):
        """Allow all senders and no cooldown, so that only the turns in a row hold a notice."""
        told = {"host": "host", "session": session, "occasion": occasion, "max_in_a_row": row}
        free = {"may_wake": "everyone", "max_per_hour": 100, "cooldown_s": 0}
        self.carry_out(call(requests.Notify, address, **told, **free), self.model.notify)

    @rule(
        address=perishable,
        name=st.none() | names,
        ttl=st.sampled_from([0, 5, 20]),
        card=st.sampled_from([b'{"v":1}', b'{"v":2}']),
    )
    def register(self, address, name, ttl, card):
        self._register(address, name=name, ttl=ttl, payload=card)

    def _register(self, address, **options):
        self.lives += 1
        command = call(
            requests.Register, address, mailbox=address, token=f"life{self.lives}", **options
        )
        self.carry_out(command, self.model.register)

    @rule(name=st.none() | names, mailbox=st.none() | addresses, said=st.none() | st.integers(1, 2))
    def report_or_unregister(self, name, mailbox, said):
        if name is None and mailbox is None:
            return
        fields = {"name": name, "mailbox": mailbox}
        if said is None:
            self.carry_out(call(requests.Unregister, "", **fields), self.model.unregister)
        else:
            payload = orjson.dumps({**fields, "said": said})
            command = call(requests.Report, "", payload=payload, **fields)
            self.carry_out(command, self.model.report)

    @rule(by_ms=st.sampled_from([1, 500, 600, 1_000, 2_000, 5_000, 10_000]), swept=st.booleans())
    def time_passes(self, by_ms, swept):
        """Let time pass and sweep, which must not change the visible state."""
        self.pass_ms(by_ms)
        if swept:
            self.apply(call(commands.Sweep))
        self.compare_state()

    @rule(early_ms=st.sampled_from([0, 0, 1]), later=st.integers(0, 2))
    def time_comes(self, early_ms, later):
        """Go to the exact instant at which something ends or is due, or just before."""
        events = sorted({one for one in self.model.events() if one > self.now})[: later + 1]
        if events:
            self.pass_ms(max(0, events[-1] - early_ms - self.now))
            self.compare_state()

    @rule(by_ms=st.sampled_from([1, 700, 3_000]), delay=st.integers(0, 2))
    def clock_is_set_back(self, by_ms, delay):
        """Set the wall clock back and send: the broker's time must not go back."""
        before = self.now
        self.clock.set_back(by_ms / 1000)
        assert self.now == before
        command = call(requests.Send, "a", payload=b"t", delay=delay)
        self.carry_out(command, self.model.send)


class InMemory(Comparison):
    def open_backend(self):
        return InlineBackend(store.open_memory(), self.steady, self.limits, AGENT_INDEX)


class OnFile(Comparison):
    def open_backend(self):
        self.folder = tempfile.TemporaryDirectory()
        self.news = queue.SimpleQueue()
        path = Path(self.folder.name, "mq9.db")
        return FileBackend(
            path, self.steady, self.limits, Durability.NORMAL, self.news.put, AGENT_INDEX
        )

    def undo(self, undo):
        super().undo(undo)
        assert self.news.get(timeout=60) == undo.address

    def teardown(self):
        super().teardown()
        if self.backend is not None:
            self.folder.cleanup()


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("comparison", "examples"), [(InMemory, 50), (OnFile, 10)])
def test_the_backend_and_the_model_agree(scale, comparison, examples):
    """Make some thousand calls to both."""
    run_state_machine_as_test(
        comparison,
        settings=settings(
            max_examples=examples * scale,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
