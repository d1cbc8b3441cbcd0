"""A call that waits for mail: it hears how long, ends honestly, and may be given up."""

import asyncio
from functools import partial

import anyio
import pytest
from hosted import running
from hosting import at_rest, begin


async def wait_for_mail(host, **arguments):
    return await host.client.call_tool("mq9_fetch_messages", arguments)


async def test_a_wait_in_vain_ends_with_the_reason(host, broker):
    await host.do("send_message", to="desk", content="later", delay=100)
    waiting = await begin(broker, host.do("fetch_messages", wait_seconds=45))

    await broker.clock.advance(44.999)
    assert not waiting.done()
    await broker.clock.advance(0.001)

    assert await waiting == {
        "mail_address": "desk",
        "messages": [],
        "empty": "1 delayed, next in 55 s",
    }


async def test_giving_up_at_any_moment_takes_nothing(host, broker):
    """However far the call has come when it is cancelled, its message is not held for the dead."""
    await host.do("whoami")
    async with broker.client() as other:
        for turns in range(60):
            number = await other.send("desk", "x")
            call = asyncio.create_task(wait_for_mail(host, wait_seconds=0))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            try:
                result = await call
            except asyncio.CancelledError:
                pass
            else:
                assert [one["msg_id"] for one in result.structured_content["messages"]] == [number]
                await host.do("ack_messages", msg_id=number)
                continue
            for _ in range(100):
                await asyncio.sleep(0)
            # Whether it was delivered or not, its own agent can have it at once.
            mail = await host.do("fetch_messages", wait_seconds=0, include_held=True)
            [message] = mail["messages"]
            assert message["msg_id"] == number
            await host.do("ack_messages", msg_id=number)


async def test_many_waits_at_once_are_answered_each(host, broker):
    await host.do("whoami")
    waiting = [
        await begin(
            broker,
            host.do("fetch_messages", group_name=f"g{number}", wait_seconds=45),
            waiting=2 * number + 2,
        )
        for number in range(20)
    ]
    async with broker.client() as sender:
        await sender.send("desk", "to all")

    for answer in await asyncio.gather(*waiting):
        assert len(answer["messages"]) == 1


async def test_there_is_a_bound_to_calls_at_once(host, broker, monkeypatch):
    monkeypatch.setattr("mcp_server.features.tools.MAX_CALLS", 2)
    await host.do("whoami")
    async with anyio.create_task_group() as tasks:
        for number in (2, 4):
            tasks.start_soon(partial(wait_for_mail, host, wait_seconds=45))
            while broker.clock.pending_timers < number:  # noqa: ASYNC110  # other tasks
                await asyncio.sleep(0)
        assert await host.fail("whoami") == "2 calls are in work already. Try again later."
        tasks.cancel_scope.cancel()
    await at_rest(broker)
    await host.do("whoami")


@pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25"])
async def test_a_call_that_is_given_up_takes_nothing_over_nats_either(era):
    from mcp import Client

    from mcp_server import Callers, Settings, make_server
    from mq9 import Mq9Client

    async with running() as server:
        settings = Settings()
        callers = Callers(lambda _agent: Mq9Client(server.url), settings, agent="desk")
        mode = "auto" if era == "2026-07-28" else "legacy"
        async with (
            Client(make_server(callers, settings), mode=mode) as client,
            Mq9Client(server.url) as other,
        ):
            await client.call_tool("mq9_whoami", {})
            for turns in (10, 100, 1_000):
                call = asyncio.create_task(
                    client.call_tool("mq9_fetch_messages", {"wait_seconds": 45})
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                # What it says now comes after what its cancellation made the server say.
                await client.call_tool("mq9_whoami", {})
                await other.send("desk", "x")
                [message] = await other.fetch("desk", group_name="desk", deliver="earliest")
                assert message.delivery_count == 1
                await other.ack("desk", "desk", message.msg_id)


@pytest.mark.parametrize(("settings", "waited"), [({}, 45), ({"max_wait_s": 7}, 7)])
async def test_a_wait_is_cut_to_what_the_host_allows(open_host, broker, settings, waited):
    host = await open_host(**settings)
    await host.do("whoami")
    before = broker.clock.now_ms()

    said = await host.do("fetch_messages", wait_seconds=3_600)

    assert said["empty"] == "no mail waits"
    assert said["waited"] == f"{waited} s, the longest here"
    assert broker.clock.now_ms() - before == waited * 1_000
