"""Before a message is deleted the user is asked, or else the model once more."""

import asyncio

import pytest
from hosting import ERAS, User, at_rest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult, ErrorData

from mcp_server import Callers, Settings, make_server
from mcp_server.features.tools import ANSWER_TIMEOUT_S
from mq9 import InvalidRequest


@pytest.fixture
async def open_with(open_host, era):
    async def open_one(*actions):
        user = User(*actions)
        host = await open_host("desk", era=era, client={"elicitation_callback": user})
        await host.do("send_message", to="desk", content="x")
        return host, user

    return open_one


async def stored(host):
    return [one["msg_id"] for one in (await host.do("query_messages"))["messages"]]


QUESTION = "Delete message 0 of desk for everybody? It cannot be undone."


async def test_a_user_who_agrees_has_it_deleted(open_with):
    host, user = await open_with("accept")
    deleted = await host.do("delete_message", mail_address="mq9://any/desk", msg_id=0)
    assert deleted["deleted"] == 0
    assert user.asked == [QUESTION]
    assert await stored(host) == []


@pytest.mark.parametrize("confirmed", [{}, {"confirm_address": "desk"}], ids=len)
async def test_a_user_who_does_not_keeps_it_whatever_the_model_says(open_with, confirmed):
    host, user = await open_with("decline")
    told = await host.fail("delete_message", mail_address="desk", msg_id=0, **confirmed)
    assert told == "The user said no: nothing is deleted. Do not try again."
    assert user.asked == [QUESTION]
    assert await stored(host) == [0]


async def test_a_question_that_is_dismissed_is_no_answer(open_with):
    """A host without anybody before it dismisses whatever it is to ask."""
    host, user = await open_with("cancel")
    told = await host.fail("delete_message", mail_address="desk", msg_id=0)
    assert told == (
        "confirm_address: deleting cannot be undone, and the user gave no answer. If it is what "
        "the user wants, call again with confirm_address='desk' as well."
    )
    assert await stored(host) == [0]

    await host.do("delete_message", mail_address="desk", msg_id=0, confirm_address="desk")
    assert len(user.asked) == 2
    assert await stored(host) == []


@pytest.mark.parametrize(("confirmed", "left"), [({}, [0]), ({"confirm_address": "desk"}, [])])
async def test_a_client_that_cannot_ask_after_all_gives_no_answer(open_host, era, confirmed, left):
    async def refuse(_context, _params):
        return ErrorData(code=-32603, message="there is nobody to ask")

    host = await open_host("desk", era=era, client={"elicitation_callback": refuse})
    await host.do("send_message", to="desk", content="x")
    call = {"mail_address": "desk", "msg_id": 0, **confirmed}

    if era == ERAS[0]:  # there the client itself gives up
        with pytest.raises(MCPError, match="nobody to ask"):
            await host.call("delete_message", **call)
        assert await stored(host) == [0]
        return
    result = await host.call("delete_message", **call)
    assert result.is_error == bool(left)
    assert await stored(host) == left


@pytest.fixture
async def left_alone(open_host):
    """Have a host of the older protocol ask a user who never answers.

    In the current protocol nobody waits: the client calls again, or does not.
    """
    asked, ended = asyncio.Event(), asyncio.Event()

    async def leave(_context, _params):
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def begin(**confirmed):
        host = await open_host("desk", era=ERAS[1], client={"elicitation_callback": leave})
        await host.do("send_message", to="desk", content="x")
        call = {"mail_address": "desk", "msg_id": 0, **confirmed}
        deleting = asyncio.create_task(host.call("delete_message", **call))
        await asked.wait()
        return host, deleting, ended

    return begin


@pytest.mark.parametrize(("confirmed", "left"), [({}, [0]), ({"confirm_address": "desk"}, [])])
async def test_a_user_who_leaves_the_question_alone_gives_no_answer(
    left_alone, broker, confirmed, left
):
    host, deleting, _ = await left_alone(**confirmed)
    await broker.clock.advance(ANSWER_TIMEOUT_S - 1)
    assert not deleting.done()
    await broker.clock.advance(1)
    assert (await deleting).is_error == bool(left)
    assert await stored(host) == left


async def test_a_call_that_is_given_up_asks_no_longer(left_alone, broker):
    host, deleting, ended = await left_alone(confirm_address="desk")
    deleting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deleting
    await ended.wait()
    await at_rest(broker)
    assert await stored(host) == [0]


async def test_a_user_is_not_asked_about_what_cannot_be_done_anyway(open_with):
    host, user = await open_with()

    assert "desk may read" in await host.fail("delete_message", mail_address="other", msg_id=0)
    assert "invalid" in await host.fail("delete_message", mail_address="Desk", msg_id=0)
    assert user.asked == []


@pytest.mark.parametrize(("key", "is_taken"), [("k" * 32, True), ("j" * 32, False)])
async def test_another_server_takes_what_one_gave_the_client_to_keep(broker, key, is_taken):
    """Behind one address, where they share a key; else what is kept is worth nothing to others."""

    def client(state_key):
        callers = Callers(lambda _agent: broker.client(), Settings(), agent="desk")
        server = make_server(callers, Settings(), state_key=state_key)
        return Client(server, elicitation_callback=User())

    with pytest.raises(InvalidRequest, match="state_key: 5 characters; give 32 or more"):
        client("short")
    call = {"mail_address": "desk", "msg_id": 0}
    answers = {"confirm": ElicitResult(action="accept", content={})}
    async with client("k" * 32) as first, client(key) as second:
        await first.call_tool("mq9_send_message", {"to": "desk", "content": "x"})
        asked = await first.session.call_tool("mq9_delete_message", call, allow_input_required=True)
        again = {"input_responses": answers, "request_state": asked.request_state}
        if is_taken:
            done = await second.session.call_tool("mq9_delete_message", call, **again)
            assert done.structured_content["deleted"] == 0
        else:
            with pytest.raises(MCPError, match="Invalid or expired"):
                await second.session.call_tool("mq9_delete_message", call, **again)
