"""Clients that come, listen, speak and go, against a list of who listens to what."""

import asyncio
import random

import pytest
import subscribed
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from waiting import until

from mq9.dialects import Dialects
from mq9.server.hub import Hub
from mq9.server.limits import ServerLimits
from mq9.server.session import ClientSession
from mq9.server.users import Anybody
from mq9.wire.parser import Connect, Publish, Subscribe, Unsubscribe
from mq9.wire.subjects import matches

pytestmark = pytest.mark.unmeasured

SUBJECTS = subscribed.subjects(["a", "b"], most=2)
PATTERNS = subscribed.patterns(["a", "b"], most=2)
sids = st.sampled_from(["1", "2"])


class Heard:
    """The way to a client that only notes what it is told."""

    peer = host = ""

    def __init__(self, number):
        self.number = number
        self.told = []

    def write(self, data, body=None):
        self.told.append(data if body is None else data + body.data)

    def close(self, reason, text):
        raise AssertionError(reason, text)

    def resume(self):
        """Nothing is ever put off."""

    def heard_by(self, subject):
        """Return the sid of each message that it has been told since it was asked before."""
        told, self.told = self.told, []
        sids = [data.split(b" ")[2].decode() for data in told]
        assert told == [f"MSG {subject} {sid} 1\r\n!\r\n".encode() for sid in sids]
        return sids


class Broker:
    """A broker that is asked nothing."""

    dialects = Dialects.ALL

    def forget(self, _consumer):
        """Nothing is remembered."""


class Expected:
    """What the reference knows of a subscription."""

    def __init__(self, client, pattern, queue, sid):
        self.client, self.pattern, self.queue, self.sid = client, pattern, queue, sid
        self.delivered = 0
        self.most = None


class Clients(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.hub = Hub(Broker(), Anybody(), ServerLimits(), random.Random(1))
        self.sessions = {}
        self.echo = {}
        self.links = {}
        self.expected = []
        self.numbers = 0

    @rule(echo=st.booleans())
    def come(self, echo):
        self.numbers += 1
        number = self.numbers
        self.links[number] = Heard(number)
        self.sessions[number] = ClientSession(self.hub, self.links[number], str(number))
        self.loop.run_until_complete(self.connect(self.sessions[number], echo))
        self.echo[number] = echo

    async def connect(self, session, echo):
        session.take(Connect({"verbose": False, "echo": echo}))
        await until(lambda: not session.is_busy)

    def teardown(self):
        self.loop.close()

    def pick(self, data):
        return data.draw(st.sampled_from(sorted(self.sessions)), label="client")

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def go(self, data):
        number = self.pick(data)
        self.sessions.pop(number).end()
        self.expected = [one for one in self.expected if one.client != number]

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), pattern=PATTERNS, queue=st.sampled_from([None, None, "q", "r"]), sid=sids)
    def listen(self, data, pattern, queue, sid):
        number = self.pick(data)
        self.sessions[number].take(Subscribe(pattern, queue, sid))
        if self.find(number, sid) is None:
            self.expected.append(Expected(number, pattern, queue, sid))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), sid=sids, most=st.none() | st.integers(0, 4))
    def listen_no_longer(self, data, sid, most):
        number = self.pick(data)
        self.sessions[number].take(Unsubscribe(sid, most))
        one = self.find(number, sid)
        if one is not None:
            one.most = most or 0
            self.end_if_done(one)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), subject=SUBJECTS, times=st.integers(1, 3))
    def speak(self, data, subject, times):
        speaker = self.pick(data)
        for _ in range(times):
            self.speak_once(speaker, subject)

    def speak_once(self, speaker, subject):
        self.sessions[speaker].take(Publish(subject, None, b"", b"!"))
        wanted = [
            one
            for one in self.expected
            if matches(one.pattern, subject) and (one.client != speaker or self.echo[speaker])
        ]
        heard = [
            self.find(number, sid)
            for number in self.sessions
            for sid in self.links[number].heard_by(subject)
        ]
        assert all(one in wanted for one in heard)
        assert [one for one in wanted if one.queue is None and heard.count(one) != 1] == []
        assert sorted(one.queue for one in heard if one.queue is not None) == sorted(
            {one.queue for one in wanted if one.queue is not None}
        )
        for one in heard:
            one.delivered += 1
            self.end_if_done(one)

    def find(self, number, sid):
        found = [one for one in self.expected if (one.client, one.sid) == (number, sid)]
        return found[0] if found else None

    def end_if_done(self, one):
        if one.most is not None and one.delivered >= one.most:
            self.expected.remove(one)

    @invariant()
    def nobody_else_is_told_or_remembered(self):
        assert [link.told for link in self.links.values() if link.told] == []
        assert len(self.hub.router) == len(self.expected)


TestClients = Clients.TestCase
TestClients.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
