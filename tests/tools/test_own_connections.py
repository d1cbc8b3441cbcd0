"""Inside ``async with``, calls on that event loop have a connection to the server of their own."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hosted import Hosted
from waiting import until

from langchain_mq9 import Mq9Toolkit

from .tool_calls import aanswer, ado

pytestmark = pytest.mark.unmeasured


class WatchedBroker:
    """Notes by which connection each request came, and answers while `released` is set."""

    def __init__(self, broker):
        self._broker = broker
        self.asked = []
        self.released = asyncio.Event()
        self.released.set()

    def begin(self, request, answer, *, at_once):
        self.asked.append(request.session.consumer)
        if self.released.is_set():
            return self._broker.begin(request, answer, at_once=at_once)
        return asyncio.create_task(self._answer(request, answer))

    async def _answer(self, request, answer):
        await self.released.wait()
        answer(await self._broker.handle(request))

    def __getattr__(self, name):
        return getattr(self._broker, name)


@pytest.fixture
async def hosted():
    async with AsyncExitStack() as stack:
        opened = Hosted(stack, wrap=WatchedBroker)
        stack.push_async_callback(opened.broker.close)
        await opened.server.start(port=0)
        stack.push_async_callback(opened.server.close)
        yield opened
        opened.broker.released.set()


def connections(hosted):
    """By which connections it was asked lately, in order of their first request."""
    asked = list(dict.fromkeys(hosted.broker.asked))
    hosted.broker.asked.clear()
    return asked


async def test_calls_inside_have_a_connection_of_their_own(hosted):
    async with Mq9Toolkit(hosted.server.url, agent="planner") as toolkit:
        await ado(toolkit, "agent_discover")
        [background] = connections(hosted)

        await asyncio.gather(*(ado(toolkit, "agent_discover") for _ in range(5)))
        [own] = connections(hosted)
        assert own != background

        await ado(toolkit, "fetch_messages", wait_seconds=0)
        assert connections(hosted) == [background]
        assert hosted.server.connections == 2
    await until(lambda: hosted.server.connections == 0)


async def test_calls_without_a_block_share_one_connection(hosted):
    toolkit = Mq9Toolkit(hosted.server.url, agent="planner")
    for _ in range(3):
        await ado(toolkit, "agent_discover")

    assert hosted.server.connections == 1
    await toolkit.aclose()


async def test_calls_on_other_loops_share_the_one_in_the_background(hosted):
    async with Mq9Toolkit(hosted.server.url, agent="planner") as toolkit:
        for _ in range(3):
            await asyncio.to_thread(asyncio.run, ado(toolkit, "agent_discover"))

        assert hosted.server.connections == 1


async def test_toolkits_of_further_agents_use_the_connection_of_the_block(hosted):
    async with Mq9Toolkit(hosted.server.url, agent="planner") as toolkit:
        async with toolkit.for_agent("writer") as writer:
            for _ in range(3):
                await ado(writer, "agent_discover")
        assert hosted.server.connections == 2
        await ado(toolkit, "agent_discover")


async def test_a_server_that_has_gone_is_told(hosted):
    async with Mq9Toolkit(hosted.server.url, agent="planner", reconnect_attempts=0) as toolkit:
        await ado(toolkit, "agent_discover")
        await hosted.server.close()

        said = await aanswer(toolkit, "agent_discover")

        assert said.status == "error"
        assert "connection refused" in said.content


async def test_a_call_that_is_going_on_is_told_of_the_end_of_the_block(hosted):
    async with Mq9Toolkit(hosted.server.url, agent="planner", request_timeout=3_600) as toolkit:
        await ado(toolkit, "agent_discover")
        await ado(toolkit, "agent_discover")
        hosted.broker.released.clear()
        hosted.broker.asked.clear()
        going_on = asyncio.create_task(aanswer(toolkit, "agent_discover"))
        await until(lambda: hosted.broker.asked)

    assert "the toolkit is closed" in (await going_on).content
    assert "the toolkit is closed" in (await aanswer(toolkit, "agent_discover")).content


async def test_a_toolkit_that_is_closed_in_its_block_is_closed(hosted):
    async with Mq9Toolkit(hosted.server.url, agent="planner") as toolkit:
        await ado(toolkit, "agent_discover")
        await ado(toolkit, "agent_discover")
        toolkit.close()

        assert "the toolkit is closed" in (await aanswer(toolkit, "agent_discover")).content
    await until(lambda: hosted.server.connections == 0)
