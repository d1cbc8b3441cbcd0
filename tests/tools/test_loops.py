"""One toolkit, one connection: from any thread, any event loop, and in a forked child."""

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from serving import Serving

from langchain_mq9 import Mq9Toolkit, QueryMessagesTool, Session
from langchain_mq9.session import ToolConnection
from mq9.concurrency.portal import Portal
from mq9.testing import FakeBroker

from .tool_calls import aanswer, ado, answer, begin, bodies, do, fetch, held, ids, tool

pytestmark = pytest.mark.unmeasured


@pytest.fixture
def sessions(broker, monkeypatch):
    """The broker's sessions: one for each connection that was used."""
    seen = set()
    carry_out = broker.carry_out

    async def count(request):
        seen.add(request.session.consumer)
        return await carry_out(request)

    monkeypatch.setattr(broker, "carry_out", count)
    return seen


def tool_threads():
    return [thread for thread in threading.enumerate() if thread.name == "mq9-tools"]


def send(toolkit, content):
    return do(toolkit, "send_message", to="planner", content=content)["msg_id"]


async def asend(toolkit, content):
    said = await ado(toolkit, "send_message", to="planner", content=content)
    return said["msg_id"]


def test_nothing_is_opened_before_the_first_call(planner, sessions):
    assert tool_threads() == []
    assert sessions == set()


async def test_sync_calls_work_where_a_loop_is_running(planner, sessions):
    assert [send(planner, "x") for _ in range(3)] == [0, 1, 2]
    assert ids(fetch(planner)) == [0, 1, 2]
    assert len(sessions) == len(tool_threads()) == 1


def test_fifty_threads_at_once(planner, sessions):
    together = threading.Barrier(50)

    def one(number):
        together.wait()
        return send(planner, str(number))

    with ThreadPoolExecutor(50) as pool:
        sent = list(pool.map(one, range(50)))

    assert sorted(sent) == list(range(50))
    assert len(sessions) == len(tool_threads()) == 1


def test_several_event_loops_at_once(planner, sessions):
    together = threading.Barrier(8)

    async def one(_):
        together.wait()
        return sorted(await asyncio.gather(*(asend(planner, "x") for _ in range(5))))

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda number: asyncio.run(one(number)), range(8)))

    assert sorted(chain.from_iterable(sent)) == list(range(40))
    assert len(sessions) == len(tool_threads()) == 1


async def test_a_long_fetch_does_not_hold_up_the_others():
    with (
        FakeBroker(autojump=False) as broker,  # which does not see the thread
        Mq9Toolkit(broker.url, agent="planner") as planner,
    ):
        waiting = await begin(broker, ado(planner, "fetch_messages", wait_seconds=45))

        assert await asyncio.to_thread(send, planner, "x") == 0
        await broker.clock.advance(1)  # for which it collects

        assert bodies(await waiting) == ["x"]


async def test_a_cancelled_fetch_leases_nothing(broker, planner, anyone):
    waiting = await begin(broker, aanswer(planner, "fetch_messages", wait_seconds=45))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    await ado(anyone, "send_message", to="planner", content="x")

    said = await ado(anyone, "fetch_messages", mail_address="planner", wait_seconds=0)
    assert bodies(said) == ["x"]
    assert "delivery_count" not in said["messages"][0]


def test_a_closed_toolkit_has_let_go_of_its_thread(planner):
    send(planner, "x")
    planner.close()
    planner.close()

    assert tool_threads() == []
    for _ in range(2):
        said = answer(planner, "fetch_messages")
        assert said.status == "error"
        assert "the toolkit is closed" in said.content
    assert tool_threads() == []


async def test_toolkits_close_with_their_blocks(broker):
    with Mq9Toolkit(broker.url, agent="planner") as toolkit:
        send(toolkit, "x")
    assert tool_threads() == []
    async with Mq9Toolkit(broker.url, agent="planner") as toolkit:
        await asend(toolkit, "x")
    assert tool_threads() == []


@pytest.mark.parametrize("close", ["close", "aclose"])
async def test_calls_that_are_going_on_are_told_of_the_close(broker, open_toolkit, close):
    toolkit = open_toolkit("planner")
    waiting = await begin(broker, aanswer(toolkit, "fetch_messages", wait_seconds=45))
    blocked = await begin(
        broker, asyncio.to_thread(answer, toolkit, "fetch_messages", wait_seconds=45), waiting=2
    )

    if close == "close":
        toolkit.close()
    else:
        await toolkit.aclose()

    for message in await asyncio.gather(waiting, blocked):
        assert message.status == "error"
        assert "the toolkit is closed" in message.content


def test_closing_amid_calls_from_many_threads_leaves_none_hanging(planner):
    together = threading.Barrier(21)

    def one(_):
        together.wait()
        return [answer(planner, "agent_discover").status for _ in range(10)]

    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(one, number) for number in range(20)]
        together.wait()
        planner.close()
        said = [status for one in answers for status in one.result(timeout=20)]

    assert len(said) == 200
    assert tool_threads() == []


def test_a_toolkit_that_is_forgotten_takes_its_thread_along(broker):
    toolkit = Mq9Toolkit(broker.url, agent="planner")
    send(toolkit, "x")
    [thread] = tool_threads()

    limbo = threading._active_limbo_lock  # noqa: SLF001  # of the standard library
    with limbo:  # which a thread needs to end, and somebody may hold
        del toolkit
        gc.collect()

    thread.join(10)
    assert tool_threads() == []


def test_on_the_tools_own_loop_async_calls_work_and_sync_ones_are_refused(broker):
    connection = ToolConnection(broker.client)
    alone = QueryMessagesTool(session=Session(agent="planner", connection=connection))

    async def block():
        return alone.invoke({})

    assert connection.call(alone.ainvoke({})) == '{"mail_address":"planner","messages":[]}'
    with pytest.raises(RuntimeError, match="called synchronously from its own event loop"):
        connection.call(block())
    connection.close()


def test_a_portal_that_stops_ends_generators_and_threads_of_its_loop():
    ended = []

    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)  # an end that needs the loop
            ended.append("generator")

    def look():
        runs.set()
        may_end.wait()
        ended.append("thread")

    async def work():
        asyncio.get_running_loop().run_in_executor(None, look)
        return await anext(kept)

    portal, kept = Portal("test"), numbers()
    runs, may_end = threading.Event(), threading.Event()
    assert portal.call(work()) == 1
    runs.wait()
    stopping = threading.Thread(target=portal.stop)
    stopping.start()
    may_end.set()
    stopping.join()
    assert sorted(ended) == ["generator", "thread"]


def test_a_toolkit_does_not_mind_another_event_loop_policy(planner):
    before = asyncio.get_event_loop_policy()
    send(planner, "x")
    [thread] = tool_threads()

    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    try:
        planner.close()
    finally:
        asyncio.set_event_loop_policy(before)

    assert not thread.is_alive()
    assert tool_threads() == []


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def forks(test):
    """Mark a test that forks a process with threads."""
    ignored = "ignore:This process .* is multi-threaded:DeprecationWarning"
    return needs_fork(pytest.mark.filterwarnings(ignored)(test))


@pytest.fixture
def forking(tmp_path):
    """A toolkit on a file, which a child can use, too."""
    with Mq9Toolkit(f"sqlite:///{tmp_path / 'mq9.db'}", agent="planner") as toolkit:
        yield toolkit


def in_a_child(work):
    """Run `work` in a forked child; what it returned, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(work()).encode())
        except BaseException as error:  # noqa: BLE001  # told to the parent
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@forks
@pytest.mark.parametrize("own_loop", [False, True])
def test_parent_and_child_both_go_on_after_a_fork(forking, own_loop):
    def go_on():
        return asyncio.run(asend(forking, "x")) if own_loop else send(forking, "x")

    assert [go_on(), go_on()] == [0, 1]
    assert in_a_child(lambda: [go_on(), go_on()]) == "[2, 3]"
    assert go_on() == 4


@forks
def test_parent_and_child_are_two_consumers(forking):
    send(forking, "one task")
    assert ids(fetch(forking)) == [0]

    assert in_a_child(lambda: fetch(forking)["held_elsewhere"]).startswith("another session")

    assert held(fetch(forking)) == [0]


@forks
def test_a_child_may_close_the_toolkit_and_the_parent_goes_on(forking):
    def close():
        forking.close()
        return answer(forking, "agent_discover").content

    send(forking, "x")
    assert "the toolkit is closed" in in_a_child(close)
    assert send(forking, "y") == 1


@pytest.mark.programs
@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_child_leaves_the_connection_of_its_parents_loop_alone(tmp_path):
    async with (
        Serving(tmp_path, "--data", str(tmp_path / "mq9.db")) as serving,
        Mq9Toolkit(serving.url, agent="planner") as toolkit,
    ):
        assert [await asend(toolkit, "from the parent") for _ in range(2)] == [0, 1]

        said = in_a_child(lambda: [asyncio.run(asend(toolkit, "from the child")) for _ in range(2)])

        assert said == "[2, 3]"
        assert await asend(toolkit, "from the parent again") == 4


def finish(program, *arguments):
    """Run a program in an interpreter of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=40,  # less than what it could wait for
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.strip()


@pytest.mark.programs
def test_a_forgotten_toolkit_does_not_keep_the_interpreter_from_ending(tmp_path):
    program = """
        import sys, threading
        from langchain_mq9 import Mq9Toolkit

        tools = {tool.name: tool for tool in Mq9Toolkit(sys.argv[1], agent="planner").get_tools()}
        print(tools["send_message"].invoke({"to": "planner", "content": "x"}))
        waiting = threading.Thread(
            target=lambda: tools["fetch_messages"].invoke(
                {"mail_address": "planner", "group_name": "other", "wait_seconds": 45}
            ),
            daemon=True,
        )
        waiting.start()
        waiting.join(0.5)
    """

    said = finish(program, f"sqlite:///{tmp_path / 'mq9.db'}")

    assert '"msg_id":0' in said


@pytest.mark.programs
def test_a_toolkit_that_is_used_while_the_interpreter_waits_to_end_works(tmp_path):
    program = """
        import asyncio, sys
        from langchain_mq9 import Mq9Toolkit
        from mq9 import Mq9Client

        async def main():
            toolkit = Mq9Toolkit(sys.argv[1], agent="planner")
            tools = {tool.name: tool for tool in toolkit.get_tools()}
            await tools["query_messages"].ainvoke({})  # which makes the mailbox
            arguments = {"wait_seconds": 45, "group_name": "g"}
            waiting = asyncio.create_task(tools["fetch_messages"].ainvoke(arguments))
            async with Mq9Client(sys.argv[1]) as client:
                while not (await client.mailbox_status("planner", group_name="g")).group.exists:
                    await asyncio.sleep(0.01)
            return waiting

        asyncio.run(main())
        print("done")
    """

    assert finish(program, f"sqlite:///{tmp_path / 'mq9.db'}") == "done"


def test_the_tools_say_nothing_of_the_connection(planner):
    assert "session" not in tool(planner, "send_message").args
    assert "memory://" not in repr(planner)
