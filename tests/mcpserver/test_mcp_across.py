"""What one session of an agent has fetched, another one can confirm, give back or keep longer.

The other session is a program of its own here: its server knows nothing of the first one.
"""

import pytest

KEPT = {"lease_ms": 30_000, "keep_ms": 3_600_000}


@pytest.fixture
async def first(open_host, era):
    """A session that has fetched two messages."""
    first = await open_host("desk", era=era, **KEPT)
    for content in ("a", "b"):
        await first.do("send_message", to="desk", content=content)
    assert len((await first.do("fetch_messages", wait_seconds=0))["messages"]) == 2
    return first


@pytest.fixture
async def second(open_host, era, first):
    """A session that comes later."""
    return await open_host("desk", era=era, **KEPT)


@pytest.mark.parametrize("named", [{}, {"mail_address": "desk"}], ids=["id", "mailbox"])
@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
async def test_another_session_confirms(first, second, named, ended):
    if ended:
        await first.callers.close()

    assert (await second.do("ack_messages", msg_id=[0, 1], **named))["acked"] == [0, 1]
    assert (await second.do("ack_messages", msg_id=0, **named))["acked"] == [0]  # as if repeated
    assert (await second.do("fetch_messages", wait_seconds=0))["messages"] == []


async def test_another_session_answers(first, second):
    await first.do("create_mailbox", name="desk.answers", ttl=600)
    await first.do("send_message", to="desk", content="?", reply_to="desk.answers")
    [asked] = (await first.do("fetch_messages", wait_seconds=0))["messages"]
    await first.callers.close()

    said = await second.do("send_message", reply_to_msg=asked["msg_id"], content="!")
    assert said["acked"] == asked["msg_id"]


async def test_another_session_keeps_it_longer_and_gives_it_back(broker, first, second):
    kept = await second.do("ack_messages", msg_id=0, outcome="more_time", seconds=600)
    assert (kept["extended"], kept["leased_seconds"]) == ([0], 600)
    given = await second.do("ack_messages", msg_id=1, outcome="give_back")
    assert given["given_back"] == [1]
    taken = (await second.do("fetch_messages", wait_seconds=0))["messages"]
    assert [one["msg_id"] for one in taken] == [1]


async def test_fetching_leaves_it_where_it_is(first, second):
    said = await second.do("fetch_messages", wait_seconds=0)
    assert said["messages"] == []
    assert said["held_elsewhere"].startswith("another session of yours holds 0, 1, while it works")


async def test_what_has_been_given_back_cannot_be_kept(first, second):
    await first.callers.close()
    said = await second.do("ack_messages", msg_id=0, outcome="more_time")
    assert said["lost"] == {"0": "your lease has ended, and it will be delivered again"}


async def test_what_was_never_fetched_is_refused(first, second):
    await first.do("send_message", to="desk", content="c")
    assert "you have not fetched 2 here" in await second.fail("ack_messages", msg_id=2)


@pytest.mark.parametrize("named", [{}, {"mail_address": "desk"}], ids=["id", "mailbox"])
async def test_what_another_agent_holds_by_now_is_its_own(broker, first, second, named):
    await first.callers.close()
    async with broker.client() as other:
        await other.fetch("desk", group_name="desk", consumer="deskmate/1", deliver="earliest")

        told = await second.fail("ack_messages", msg_id=0, **named)

        assert "another consumer holds it until" in told
        assert await other.ack("desk", "desk", 0, consumer="deskmate/1", individual=True) == [0]


async def test_a_session_that_lost_it_does_not_confirm_for_the_one_that_has_it(
    broker, open_host, era
):
    """The first one knows its own delivery, and that counts."""
    first, second = [await open_host("desk", era=era, lease_ms=30_000) for _ in range(2)]
    await first.do("send_message", to="desk", content="a")
    for one in (first, second):
        assert len((await one.do("fetch_messages", wait_seconds=0))["messages"]) == 1
        await broker.clock.advance(0 if one is second else 31)

    told = await first.do("ack_messages", msg_id=0)

    assert (told["acked"], told["lost"]) == ([], {"0": "another consumer has it now"})
    assert (await second.do("ack_messages", msg_id=0))["acked"] == [0]
