"""A checkpoint of an older turn that comes late is not what a thread goes on from."""

import asyncio
import contextlib
import threading
from typing import Annotated

import pytest
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import UUID, uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Interrupt
from typing_extensions import TypedDict

from langchain_mq9.calls import MESSAGE, TURN
from langchain_mq9.worker.fence import FencedSaver
from langchain_mq9.worker.turns import mailbox_of_turn
from mq9 import Retry
from mq9.operations.conversations import thread_id
from tests.worker.graphs import State, Steps, ask, working

THREAD = "00000000-0000-5000-8000-000000000001"
TASK = "00000000-0000-5000-8000-000000000002"
OTHER_TASK = "00000000-0000-5000-8000-000000000003"


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.programs)])
async def saver(request, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "memory":
            yield InMemorySaver()
        elif request.param == "sqlite":
            path = str(tmp_path / "threads.db")
            yield await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(path))
        else:
            aio = pytest.importorskip("langgraph.checkpoint.postgres.aio")
            where = request.getfixturevalue("postgres_database")
            postgres = aio.AsyncPostgresSaver.from_conn_string(where)
            postgres = await stack.enter_async_context(postgres)
            await postgres.setup()
            yield postgres


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
        # They were on their way while the other turn began, from machines whose clocks are ahead.
        await put(saver, first, checkpoint=new_checkpoint(1_800), **{TURN: old})
        late = await put(
            saver, first, checkpoint=new_checkpoint(3_600), **{TURN: old - 1, MESSAGE: "m"}
        )
        assert id_of(await fenced.aget_tuple(at(namespace))) == id_of(third)
    assert id_of(await saver.aget_tuple(at(namespace))) == id_of(late)
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert id_of(await fenced.aget_tuple(at(namespace))) == id_of(third)
        listed = [id_of(one) async for one in fenced.alist(at(namespace))]
        assert listed == [id_of(third), id_of(second), id_of(first)]
        before = fenced.alist(at(namespace), before=third, limit=1)
        assert [id_of(one) async for one in before] == [id_of(second)]
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


class Late:
    """A checkpointer in which some writes of tasks arrive later, and whose disk is full then."""

    def __init__(self, saver, *, only="", full_at=9):
        self._saver = saver
        self._only = only
        self._full_at = full_at
        self._late = []

    def __getattr__(self, name):
        return getattr(self._saver, name)

    async def aput_writes(self, config, writes, task_id, task_path=""):
        if self._only in str(writes):
            self._late.append((config, writes, task_id, task_path))
        else:
            await self._saver.aput_writes(config, writes, task_id, task_path)

    async def aput(self, config, checkpoint, metadata, new_versions):
        if metadata["step"] >= self._full_at:
            raise OSError("the disk is full")
        return await self._saver.aput(config, checkpoint, metadata, new_versions)

    async def arrive(self):
        for one in self._late:
            await self._saver.aput_writes(*one)


async def pending(saver):
    return (await saver.aget_tuple(at())).pending_writes


@pytest.mark.parametrize("is_maker", [True, False])
@pytest.mark.parametrize("is_first", [True, False])
async def test_late_writes_of_an_older_turn_are_not_mixed_with_those_of_a_later_one(
    broker, turns, saver, is_maker, is_first
):
    late = Late(saver)
    old = [("trail", "old"), ("topic", "old")]
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(late, turn)
        head = await put(fenced, at())
        if is_maker:
            await fenced.aput_writes(head, old, TASK)
    await broker.clock.advance(1)
    if not is_maker:
        async with turns.take(THREAD) as turn:
            fenced = FencedSaver(late, turn)
            await fenced.aget_tuple(at())
            await fenced.aput_writes(head, old, TASK)
        await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert await pending(fenced) == []
        if is_first:
            await late.arrive()
        await fenced.aput_writes(head, [("trail", "new")], TASK)
        if not is_first:
            await late.arrive()
        assert await pending(fenced) == [(TASK, "trail", "new")]
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert await pending(fenced) == [(TASK, "trail", "new")]
        assert (await anext(fenced.alist(at()))).pending_writes == [(TASK, "trail", "new")]


async def test_a_late_write_is_used_where_no_later_turn_ran_the_task(broker, turns, saver):
    late = Late(saver)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(late, turn)
        head = await put(fenced, at())
        await fenced.aput_writes(head, [("trail", "done")], TASK)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert await pending(fenced) == []
        await fenced.aput_writes(head, [("trail", "other")], OTHER_TASK)
    await late.arrive()
    await broker.clock.advance(1)
    done = {(TASK, "trail", "done"), (OTHER_TASK, "trail", "other")}
    async with turns.take(THREAD) as turn:
        assert {*await pending(FencedSaver(saver, turn))} == done
    assert done <= {one for one in await pending(saver) if one[1] == "trail"}


async def test_late_questions_and_answers_do_not_replace_those_of_a_later_turn(
    broker, turns, saver
):
    first, second, third = ([Interrupt(name, id=name)] for name in ("first", "second", "third"))
    async with turns.take(THREAD) as turn:
        old = turn.number + 1
        fenced = FencedSaver(saver, turn)
        head = await put(fenced, at())
        await fenced.aput_writes(head, [(INTERRUPT, first)], TASK)
    for number, written in (
        (None, [(INTERRUPT, second), (RESUME, ["one"])]),
        (None, [(INTERRUPT, third), (RESUME, ["one", "two"])]),
        (None, [(ERROR, "the node failed")]),
        (old, [(INTERRUPT, second), (RESUME, ["one"])]),  # it was renewed before the others began
    ):
        await broker.clock.advance(1)
        async with turns.take(THREAD) as turn:
            fenced = FencedSaver(saver, turn)
            await fenced.aget_tuple(at())
            turn.number = number or turn.number
            await fenced.aput_writes(head, written, TASK)
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        fenced = FencedSaver(saver, turn)
        assert {channel: value for _, channel, value in await pending(fenced)} == {
            INTERRUPT: third,
            RESUME: ["one", "two"],
            ERROR: "the node failed",
        }
        await fenced.aput_writes(head, [("trail", "done")], TASK)
        assert ERROR not in {channel for _, channel, _ in await pending(fenced)}


async def test_numbers_rise_over_those_of_turns_that_stored_no_checkpoint(turns, saver):
    """The broker is another one, and its time behind."""
    async with turns.take(THREAD) as turn:
        head = await put(FencedSaver(saver, turn), at(), **{TURN: 1})
    for ahead in (1_000_000, 0):
        async with turns.take(THREAD) as turn:
            turn.number += ahead
            fenced = FencedSaver(saver, turn)
            await fenced.aget_tuple(at())
            await fenced.aput_writes(head, [("trail", ahead)], TASK)
            assert await pending(fenced) == [(TASK, "trail", ahead)]


def appended(state, writes):
    return [*state, *(name for names in writes for name in names)]


class DeltaState(TypedDict, total=False):
    trail: Annotated[list[str], DeltaChannel(appended)]


@pytest.mark.parametrize("crashes", [True, False])
@pytest.mark.parametrize("schema", [State, DeltaState])
async def test_a_run_holds_what_each_task_wrote_once_though_an_older_turn_wrote_late(
    broker, turns, saver, schema, crashes
):
    """Of two tasks one was done when the older turn ended."""
    ran = []
    late = Late(saver, only="old", full_at=1)

    async def one(state):
        ran.append("one")
        return {"trail": ["one"]}

    async def old(state):
        ran.append("old")
        return [Command(update={"trail": ["old"]})] * 3

    async def new(state):
        ran.append("new")
        await late.arrive()
        return {"trail": ["new"]}

    def graph_of(two, checkpointer):
        builder = StateGraph(schema).add_node("one", one).add_node("two", two)
        builder.add_edge(START, "one").add_edge(START, "two")
        return builder.compile(checkpointer=checkpointer)

    config, sync = {"configurable": {"thread_id": THREAD}}, {"durability": "sync"}
    async with turns.take(THREAD) as turn:
        with pytest.raises(OSError, match="full"):
            await graph_of(old, FencedSaver(late, turn)).ainvoke({"trail": ["in"]}, config, **sync)
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        full = Late(saver, only="nothing", full_at=1 if crashes else 9)
        with pytest.raises(OSError, match="full") if crashes else contextlib.nullcontext():
            await graph_of(new, FencedSaver(full, turn)).ainvoke(None, config, **sync)
    await broker.clock.advance(1)
    async with turns.take(THREAD) as turn:
        graph = graph_of(new, FencedSaver(saver, turn))
        if crashes:
            await graph.ainvoke(None, config, **sync)
        for reader in (graph, graph_of(new, saver)):
            assert (await reader.aget_state(config)).values["trail"] == ["in", "one", "new"]
    assert sorted(ran) == ["new", "old", "one"]


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
        ahead = turn.number + 1_000_000
        first = await put(saver, at(), **{TURN: ahead})
        fenced = FencedSaver(saver, turn)
        assert id_of(await fenced.aget_tuple(at())) == id_of(first)
        second = await put(fenced, first)
        await put(saver, first, **{TURN: ahead})  # late
    async with turns.take(THREAD) as turn:
        assert id_of(await FencedSaver(saver, turn).aget_tuple(at())) == id_of(second)


async def test_a_worker_numbers_the_checkpoints_of_subgraphs_too(broker, client):
    inner = StateGraph(State).add_node("inner", lambda _: {"trail": ["inner"]})
    inner.add_edge(START, "inner").add_edge("inner", END)
    outer = StateGraph(State).add_node("outer", inner.compile())
    outer.add_edge(START, "outer").add_edge("outer", END)
    saver = InMemorySaver()
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
        if self.is_full and metadata["source"] == "loop" and metadata["step"] >= 2:
            raise OSError("no space left")
        return await super().aput(config, checkpoint, metadata, new_versions)


async def test_what_was_cut_off_is_ended_before_others_though_it_cannot_be_stored_now(
    broker, client
):
    saver = FullDisk()
    steps = Steps("read", "write")
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


class LosesItsTurn(InMemorySaver):
    """Ends the turn as soon as the last checkpoint of its run is stored, once."""

    def __init__(self, client):
        super().__init__()
        self.client = client

    async def aput(self, config, checkpoint, metadata, new_versions):
        stored = await super().aput(config, checkpoint, metadata, new_versions)
        if self.client is not None and len(checkpoint["channel_values"].get("trail", ())) == 2:
            client, self.client = self.client, None
            await client.mailbox_drop(
                mailbox_of_turn("lawyer", config["configurable"]["thread_id"])
            )
        return stored


async def test_a_run_whose_turn_ends_with_its_last_checkpoint_is_answered_by_its_next_delivery(
    broker, client
):
    steps = Steps("read", "write")
    async with working(client, steps.compile(LosesItsTurn(client)), retry_delay=10):
        await ask(client, "one")
        await broker.clock.advance(5)
        assert await client.query("asker") == []
        await broker.clock.advance(60)
    [answer] = await client.query("asker")
    assert answer.json()["trail"] == ["read", "write"]


async def test_a_read_that_is_cancelled_leaves_no_old_state_to_the_next_one(
    broker, turns, tmp_path
):
    path = str(tmp_path / "threads.db")
    connect = AsyncSqliteSaver.from_conn_string
    async with connect(path) as saver, connect(path) as other:
        async with turns.take(THREAD) as turn:
            await put(FencedSaver(other, turn), at())
            has_begun, may_go_on = threading.Event(), threading.Event()

            def stop(statement):
                if statement.startswith("SELECT") and not has_begun.is_set():
                    has_begun.set()
                    may_go_on.wait(10)

            await saver.conn.set_trace_callback(stop)
            reading = asyncio.create_task(FencedSaver(saver, turn).aget_tuple(at()))
            await asyncio.to_thread(has_begun.wait, 10)
            reading.cancel()
            await asyncio.sleep(0)
            may_go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await reading
        await broker.clock.advance(1)
        async with turns.take(THREAD) as turn:
            stored = await put(FencedSaver(other, turn), at())
        async with turns.take(THREAD) as turn:
            head = await FencedSaver(saver, turn).aget_tuple(at())
        assert id_of(head) == id_of(stored)
