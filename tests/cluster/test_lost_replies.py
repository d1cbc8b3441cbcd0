"""The log on JetStream, where servers and connections do what they may."""

import asyncio
import random

import orjson
import pytest

from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.log import Purged
from mq9.errors import LimitReached, Mq9Error, OutcomeUnknown

from .simulation.servers import Message, Servers
from .simulation.time import SimulatedClock, SimulatedLoop


class LosingServers(Servers):
    """Servers of which a connection loses the first record that it reads."""

    has_lost = False

    def get(self, wanted, bring):
        def bring_all_but_first(message):
            if self.has_lost:
                bring(message)
            self.has_lost = True

        super().get(wanted, bring_all_but_first)


class OrphanedServers(Servers):
    """Servers of which one has failed, and answers first; an answer that comes first is alone."""

    asked = 0

    def ask(self, subject, data, headers, answer):
        if not subject.startswith("$JS.API.STREAM.INFO"):
            super().ask(subject, data, headers, answer)
            return
        self.asked += 1
        answer(self.info(None, 60))
        if self.asked > 1:
            super().ask(subject, data, headers, answer)


class FullServers(Servers):
    """Servers that refuse records, from some request on; earlier ones are not answered.

    Attributes:
        code: JetStream's code of the refusal.
        silent: How many requests are not answered.
    """

    code = 10002
    silent = 0
    asked = 0

    def ask(self, subject, data, headers, answer):
        self.asked += 1
        if self.asked > self.silent:
            error = {"err_code": self.code, "description": "resource limits exceeded"}
            answer(Message(orjson.dumps({"error": error}), {}))


async def append_where_it_is_full(**options):
    loop = asyncio.get_running_loop()
    clock = SimulatedClock(loop, 1_700_000_000_000)
    servers = FullServers(loop, clock, random.Random(1), lambda _: None, lambda: None)
    vars(servers).update(options)
    with pytest.raises(Mq9Error) as refused:
        await JetStreamLog(servers.connect(), clock).append(b"record", "1")
    return type(refused.value), servers.asked, round(loop.time())


async def ask_for_the_last():
    loop = asyncio.get_running_loop()
    clock = SimulatedClock(loop, 1_700_000_000_000)
    servers = OrphanedServers(loop, clock, random.Random(1), lambda _: None, lambda: None)
    log = JetStreamLog(servers.connect(), clock)
    await log.append(b"record", "1")
    return (await log.last()).sequence, servers.asked


async def append_by_the_former_leader():
    loop = asyncio.get_running_loop()
    clock = SimulatedClock(loop, 1_700_000_000_000)
    servers = Servers(loop, clock, random.Random(1), lambda _: None, lambda: None)
    connection = servers.connect()
    connection.cut_off()
    return await JetStreamLog(connection, clock).append(b"record", "1")


async def read_log(first, purged_before):
    loop = asyncio.get_running_loop()
    clock = SimulatedClock(loop, 1_700_000_000_000)
    servers = LosingServers(loop, clock, random.Random(1), lambda _: None, lambda: None)
    log = JetStreamLog(servers.connect(), clock)
    for number in range(5):
        await log.append(b"record", f"{number}")
    servers.purge(purged_before)
    return [[logged.sequence for logged in await log.read(first)] for _ in range(2)]


@pytest.fixture
def run():
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        yield runner.run


def test_the_leader_is_heard_that_answers_after_a_server_which_has_failed(run):
    assert run(ask_for_the_last()) == (1, 2)


def test_a_record_that_no_server_has_room_for_is_refused_at_once(run):
    assert run(append_where_it_is_full()) == (LimitReached, 1, 0)


def test_another_server_may_have_room_and_is_given_the_time_to_lead(run):
    kind, asked, seconds = run(append_where_it_is_full(code=10023))
    assert (kind, seconds) == (LimitReached, 2)
    assert asked > 10


@pytest.mark.parametrize("options", [{"silent": 1}, {"code": 10158}])
def test_a_record_that_may_have_been_stored_before_is_not_said_to_be_refused(run, options):
    kind, _, seconds = run(append_where_it_is_full(**options))
    assert (kind, seconds) == (OutcomeUnknown, 20)


def test_who_reaches_no_leader_goes_to_another_server(run):
    assert run(append_by_the_former_leader()) == 1


def test_a_record_that_is_lost_on_its_way_is_not_taken_for_a_purged_one(run):
    assert run(read_log(2, 1)) == [[], [2, 3, 4, 5]]


def test_a_record_that_is_purged_is_said_to_be(run):
    with pytest.raises(Purged):
        run(read_log(2, 4))
