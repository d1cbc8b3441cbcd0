"""Mailboxes of the first generation that keep their newest message only."""

import pytest

from .generations import FIRST, GENERATIONS, READERS, make, unread, write
from .hearing import Post


async def test_it_is_the_newest_of_all_generations_and_priorities(way):
    box = await make(way, FIRST, type="latest")
    for writer, word in zip(GENERATIONS, ("critical", "urgent", "notify"), strict=True):
        await write(way, writer, box.address, word.encode(), word)
        for read in READERS:
            assert [one["payload"] for one in await read(way, box)] == [word], read


async def test_a_standard_one_keeps_all_and_another_type_is_refused(way):
    box = await make(way, FIRST)
    for body in (b"a", b"b"):
        await write(way, FIRST, box.address, body)
    assert len(await unread(way, box)) == 2

    for wrong in ("newest", "LATEST", 7, ["latest"]):
        reply = await way.ask("MAILBOX.CREATE", {"type": wrong})
        assert reply["code"] == "invalid_request"
        assert "type" in reply["error"]


@pytest.fixture
async def state(hosted):
    """A server with a mailbox ``box`` that keeps its newest message, and what is unread there."""
    post = Post(hosted)
    _, unread = await post.made("box", "latest")
    return post, unread


@pytest.mark.parametrize("subject", ["INBOX.box.*", "MAILBOX.MSG.box"])
async def test_a_subscription_is_sent_the_newest_then_each_that_arrives(state, subject):
    post, _ = state
    await post.send("one", "two")
    listener = await post.listen(subject)
    assert await listener.heard() == ["two"]
    for body in ("three", "four"):
        await post.send(body)
        assert await listener.heard() == [body]
    assert await (await post.listen(subject)).heard() == ["four"]


async def test_a_group_is_sent_what_was_not_replaced_before(state):
    post, _ = state
    await post.send("one", "two")
    members = [await post.listen(queue="workers") for _ in range(2)]
    assert [body for member in members for body in await member.heard()] == ["two"]
    for member in members:
        await member.leave()

    await post.send("three", "four")

    assert await (await post.listen(queue="workers")).heard() == ["four"]


async def test_what_takes_the_place_of_what_was_sent_is_unread(state):
    post, unread = state
    await post.send("one")
    listener = await post.listen("INBOX.box.*")
    assert await listener.heard() == ["one"]
    await listener.leave()
    assert await unread() == []

    await post.send("two", "three")

    assert await unread() == ["three"]
