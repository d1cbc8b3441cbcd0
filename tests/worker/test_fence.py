"""A checkpoint of an older turn that comes late is not what a thread goes on from."""

import asyncio
import contextlib

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import UUID, uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from langchain_mq9.calls import MESSAGE, TURN
from langchain_mq9.worker.conversations import thread_id
from langchain_mq9.worker.fence import FencedSaver
from langchain_mq9.worker.turns import Turns, mailbox_of_turn
from mq9 import Retry
from tests import postgres_server
from tests.worker.graphs import State, Steps, working

THREAD = "00000000-0000-5000-8000-000000000001"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def saver(request, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "memory":
            yield InMemorySaver()
        elif request.param == "sqlite":
            path = str(tmp_path / "threads.db")
            yield await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(path))
        else:
            if postgres_server.programs() is None:
                pytest.skip("PostgreSQL is not installed")
            aio = pytest.importorskip("langgraph.checkpoint.postgres.aio")
            where = stack.enter_context(postgres_server.serving())
            postgres = aio.AsyncPostgresSaver.from_conn_string(where)
            postgres = await stack.enter_async_context(postgres)
            await postgres.setup()
            yield postgres


@pytest.fixture
def turns(client):
    return Turns(client, agent="lawyer", mail_address="lawyer", lease_ms=15_000)


def at(namespace="", **more):
    return {"configurable": {"thread_id": THREAD, "checkpoint_ns": namespace, **more}}


def new_checkpoint(seconds=0):
    """A checkpoint of a machine whose clock is ahead."""
    id_ = uuid6()
    if seconds:
        ahead = id_.time + seconds * 10_000_000
        id_ = UUID(int=(ahead >> 12) << 80 | 6 << 76 | (ahead & 0xFFF) << 64 | 2 << 62 | 1)
    return {**empty_checkpoint(), "id": str(id_)}


async def put(saver, parent, *, checkpoint=None, **metadata):
    checkpoint = checkpoint or new_checkpoint()
    told = {"source": "loop", "step": 1, "parents": {}, **metadata}
    return await saver.aput(parent, checkpoint, told, {})


def id_of(one):
    config = one.config if hasattr(one, "config") else one
    return config["configurable"]["checkpoint_id"]


@pytest.mark.parametrize("namespace", ["", "node:1"])
async def test_a_late_checkpoint_of_an_older_turn_is_passed_over(broker, turns, saver, namespace):
    async with turns.take(THREAD) as turn:
        first = await put(FencedSaver(saver, turn), at(namespace), **{MESSAGE: "m"})
        old = turn.number
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert id_of(await fenced.aget_tuple(at(namespace))) == id_of(first)
        second = await put(fenced, first)
        third = await put(fenced, second)
        # It was on its way while the other turn began, from a machine whose clock is ahead.
        late = await put(
            saver, first, checkpoint=new_checkpoint(3_600), **{TURN: old, MESSAGE: "m"}
        )
        assert id_of(await fenced.aget_tuple(at(namespace))) == id_of(third)
    assert id_of(await saver.aget_tuple(at(namespace))) == id_of(late)
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert id_of(await fenced.aget_tuple(at(namespace))) == id_of(third)
        listed = [id_of(one) async for one in fenced.alist(at(namespace))]
        assert listed == [id_of(third), id_of(second), id_of(first)]
        of_message = fenced.alist(at(namespace), filter={MESSAGE: "m"}, limit=1)
        assert [id_of(one) async for one in of_message] == [id_of(first)]
        await put(fenced, third)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert id_of((await fenced.aget_tuple(at(namespace))).parent_config) == id_of(third)


async def test_a_late_first_checkpoint_is_passed_over(broker, turns, saver):
    async with turns.take(THREAD) as turn:
        old = turn.number
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert await fenced.aget_tuple(at()) is None
        await put(saver, at(), **{TURN: old})
        assert await fenced.aget_tuple(at()) is None  # it goes on from where it began
        first = await put(fenced, at())
        await put(saver, at(), **{TURN: old})
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        assert id_of(await FencedSaver(saver, turn).aget_tuple(at())) == id_of(first)


async def test_what_is_stored_by_hand_is_gone_on_from(broker, turns, saver):
    async with turns.take(THREAD) as turn:
        first = await put(FencedSaver(saver, turn), at())
        await put(FencedSaver(saver, turn), first)
    by_hand = await put(saver, first)
    async with turns.take(THREAD) as turn:
        assert id_of(await FencedSaver(saver, turn).aget_tuple(at())) == id_of(by_hand)


async def test_nothing_is_stored_when_the_turn_has_ended(client, turns, saver):
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        first = await put(fenced, at())
        await client.mailbox_drop(mailbox_of_turn("lawyer", THREAD))
        with pytest.raises(Retry):
            await put(fenced, first)
        with pytest.raises(Retry):
            await fenced.aput_writes(first, [("trail", ["x"])], "task")
        with pytest.raises(Retry):
            fenced.put(first, new_checkpoint(), {}, {})
        with pytest.raises(Retry):
            fenced.put_writes(first, [("trail", ["x"])], "task")
    [stored] = [one async for one in saver.alist(at())]
    assert (id_of(stored), stored.pending_writes) == (id_of(first), [])


async def test_a_machine_whose_clock_is_behind_waits_until_it_is_not(turns, saver):
    async with turns.take(THREAD) as turn:
        await put(FencedSaver(saver, turn), at(), checkpoint=new_checkpoint(3600))
    async with turns.take(THREAD) as turn:
        with pytest.raises(Retry, match="clock"):
            await FencedSaver(saver, turn).aget_tuple(at())


async def test_numbers_rise_though_the_broker_is_another_one_and_its_time_behind(turns, saver):
    async with turns.take(THREAD) as turn:
        first = await put(saver, at(), **{TURN: turn.number + 1_000_000})
        fenced = FencedSaver(saver, turn)
        assert id_of(await fenced.aget_tuple(at())) == id_of(first)
        second = await put(fenced, first)
    async with turns.take(THREAD) as turn:
        assert id_of(await FencedSaver(saver, turn).aget_tuple(at())) == id_of(second)


async def ask(client, name):
    await client.send(
        "lawyer",
        {"topic": name},
        sender="ada",
        reply_to="asker",
        correlation_id=name,
        headers={"conversation": "x"},
    )


async def test_a_worker_numbers_the_checkpoints_of_subgraphs_too(broker, client):
    inner = StateGraph(State).add_node("inner", lambda _: {"trail": ["inner"]})
    inner.add_edge(START, "inner").add_edge("inner", END)
    outer = StateGraph(State).add_node("outer", inner.compile())
    outer.add_edge(START, "outer").add_edge("outer", END)
    saver = InMemorySaver()
    await client.mailbox_create(name="asker")
    async with working(client, outer.compile(checkpointer=saver)):
        for name in ("one", "two"):
            await ask(client, name)
            await broker.clock.advance(1)
    stored = [*saver.list(None)]
    assert {one.config["configurable"]["checkpoint_ns"].split(":")[0] for one in stored} == {
        "",
        "outer",
    }
    assert len({one.metadata[TURN] for one in stored}) == 2


async def test_a_run_that_lost_its_turn_stores_nothing_more(broker, client):
    """Its step is done when it wakes up; another run of the thread has ended by then."""
    waiting = [asyncio.Event()]

    async def wait_once(state, config):
        if waiting:
            event = waiting.pop()
            with contextlib.suppress(asyncio.CancelledError):
                await event.wait()

    steps = Steps("read", "think", "write", think=wait_once)
    graph = steps.compile()
    await client.mailbox_create(name="asker")
    async with broker.client() as other, working(other, graph):
        await ask(client, "one")
        await broker.clock.advance(0)
        [sent] = await client.query("lawyer")
        thread = thread_id("lawyer", sent)
        await client.mailbox_drop(mailbox_of_turn("lawyer", thread))
        await broker.clock.advance(90)
    config = {"configurable": {"thread_id": thread}}
    assert (await graph.aget_state(config)).values["trail"] == ["read", "think", "write"]
    assert steps.ran == ["read", "think", "think", "write"]


@pytest.mark.parametrize("consumer", [None, "same"])
async def test_a_message_that_was_delivered_again_is_not_begun(broker, client, consumer):
    """While it waited for its turn its lease ended, as when the process is paused."""
    blocked = asyncio.Event()

    async def wait(state, config):
        await blocked.wait()

    steps = Steps("read", read=wait)
    await client.mailbox_create(name="asker")
    async with working(client, steps.compile(), retry_delay=30) as worker:
        await ask(client, "one")
        await ask(client, "two")
        await broker.clock.advance(1)
        status = await client.mailbox_status("lawyer", group_name="lawyer")
        [held] = status.group.leased
        name = held.consumer if consumer == "same" else "other"
        options = {"consumer": name, "max_wait_ms": 0, "force_deliver": name == "other"}
        assert len(await client.fetch("lawyer", group_name="lawyer", **options)) == 2
        blocked.set()
        await broker.clock.advance(1)
        assert steps.ran == ["read"]
        assert worker.counters.mail.retried == 1


class FullDisk(InMemorySaver):
    """Cannot store a checkpoint of the last step for a while."""

    is_full = False

    async def aput(self, config, checkpoint, metadata, new_versions):
        if self.is_full and metadata["step"] >= 2:
            raise OSError("no space left")
        return await super().aput(config, checkpoint, metadata, new_versions)


async def test_what_was_cut_off_is_ended_before_others_though_it_cannot_be_stored_now(
    broker, client
):
    saver = FullDisk()
    steps = Steps("read", "write")
    await client.mailbox_create(name="asker")
    async with working(client, steps.compile(saver), retry_delay=10) as worker:
        saver.is_full = True
        for name in ("one", "two"):
            await ask(client, name)
            await broker.clock.advance(1)
        saver.is_full = False
        await broker.clock.advance(60)
        assert worker.counters.mail.processed == 2
    answers = {one.correlation_id: one.json()["trail"] for one in await client.query("asker")}
    assert sorted(map(len, answers.values())) == [2, 4]
