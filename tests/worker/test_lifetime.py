"""A worker's registration, what it refuses, and how it ends."""

import asyncio
import inspect

import pytest

from langchain_mq9 import MailboxWorker, WorkerOptions
from mq9 import InvalidRequest, Mq9Client
from mq9.client.consumer import HandlingOptions
from tests.worker.graphs import Steps, echo, held, wait_once, working


async def test_it_registers_what_the_agent_can_do_and_lives_on(broker, client):
    async with working(client, echo(), capabilities="reads contracts", registration_ttl=60):
        [found] = await client.agent_discover(text="contracts")
        assert (found.match.name, found.match.mailbox) == ("lawyer", "lawyer")
        await broker.clock.advance(300)
        [found] = await client.agent_discover(text="contracts")
        assert found.match.status == {"status": "working", "in_flight": 0}
    await broker.clock.advance(59)
    assert len(await client.agent_discover(text="contracts")) == 1  # while it is started anew
    await broker.clock.advance(2)
    assert await client.agent_discover(text="contracts") == []


async def test_it_registers_again_when_it_was_removed(broker, client):
    card = {"description": "reads contracts", "skills": [{"name": "contracts"}]}
    async with working(client, echo(), capabilities=card, registration_ttl=60):
        await client.agent_unregister(name="lawyer")
        await broker.clock.advance(20)
        [found] = await client.agent_discover()
        assert found["skills"] == card["skills"]


async def test_it_is_started_once_and_goes_unregistered_where_nothing_is_said_of_it(client):
    async with working(client, echo()) as worker:
        assert await client.agent_discover() == []
        with pytest.raises(InvalidRequest, match="it was started before"):
            await worker.start()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"agent": ""}, "agent: "),
        ({"capabilities": {"name": "clerk"}}, "capabilities: its name is 'clerk', not 'lawyer'"),
        ({"concurrency": 0}, "concurrency: "),
        ({"handler_timeout": 0}, "handler_timeout: "),
        ({"stop_timeout": -1}, "stop_timeout: "),
        ({"progress": "mail"}, "progress: 'mail' is not 'mailbox'"),
        ({"input": 3}, "input: 3 cannot be called"),
        ({"output": "text"}, "output: 'text' cannot be called"),
        ({"server": "memory://x"}, "client: it has its server and options"),
        ({"max_hops": 64}, "max_hops: "),
        ({"registration_ttl": 1, "capabilities": "x"}, "registration_ttl: "),
        ({"dead_letter": "No Address"}, "invalid mail_address"),
    ],
)
async def test_arguments_that_cannot_be_are_refused(client, options, reason):
    with pytest.raises(InvalidRequest, match=reason):
        MailboxWorker(echo(), **{"agent": "lawyer", "client": client, **options})


async def test_a_run_is_finished_when_it_stops_in_time(broker, client):
    free = asyncio.Event()

    async def wait(state, config):
        await free.wait()

    steps = Steps("read", "write", read=wait)
    await client.mailbox_create(name="lawyer")
    await client.send("lawyer", {"topic": "tea"})
    async with working(client, steps.compile(), stop_timeout=10) as worker:
        await broker.clock.advance(0)
        worker.request_stop()
        await broker.clock.advance(9)
        assert worker.is_running
        free.set()
    assert steps.ran == ["read", "write"]
    assert worker.counters.mail.processed == 1
    assert not worker.is_running


async def test_what_does_not_finish_goes_on_elsewhere_at_its_step(broker, client):
    steps = Steps("read", "write", write=wait_once())
    graph = steps.compile()
    async with working(client, graph, stop_timeout=10) as worker:
        asking = asyncio.create_task(client.request("lawyer", {"topic": "tea"}, timeout=300))
        await broker.clock.advance(0)
        stopping = asyncio.create_task(worker.stop())
        await broker.clock.advance(10)
        await stopping
        assert worker.counters.mail.interrupted == 1
        assert await held(client) == 0
    async with working(client, graph) as worker:
        answer = await asking
        assert answer.json()["trail"] == ["read", "write"]
        assert worker.counters.continued == 1
    assert steps.ran == ["read", "write", "write"]


async def test_it_works_until_it_is_asked_to_stop_and_closes_a_client_of_its_own(broker, client):
    worker = MailboxWorker(echo(), agent="lawyer", server=broker.url)
    working_on = asyncio.create_task(worker.arun())
    await broker.clock.advance(0)
    assert (await client.request("lawyer", "hello")).text == "1: hello"
    worker.request_stop()
    await working_on
    assert (worker.is_running, worker.counters.mail.processed) == (False, 1)


async def test_what_cannot_be_started_leaves_nothing_open(broker, client):
    for name in ("lawyer", "lawyer.dead"):
        await client.mailbox_create(name=name)
    worker = MailboxWorker(echo(), agent="lawyer", server=broker.url, dead_letter="lawyer")
    with pytest.raises(InvalidRequest, match="dead_letter: lawyer is the mailbox itself"):
        await worker.start()
    await broker.clock.advance(0)
    assert (worker.is_running, broker.waiting) == (False, 0)


def test_each_option_is_shown_with_its_default():
    shown = inspect.signature(MailboxWorker).parameters
    handling = HandlingOptions.__annotations__.keys()
    assert handling <= shown.keys()
    described = inspect.getdoc(WorkerOptions)
    assert all(f"\n    {name}: " in described for name in handling)
    own = {name: shown[name].default for name in ("concurrency", "handler_timeout", "lease_ms")}
    assert own == {"concurrency": 8, "handler_timeout": 600.0, "lease_ms": 15_000}
    consumer = inspect.signature(Mq9Client.consume).parameters
    for name in handling - own.keys():
        assert shown[name].default == consumer[name].default
