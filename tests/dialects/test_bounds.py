"""What clients of older generations cannot do: take more than they may, or hold up anybody."""

import asyncio
import gc
from collections import Counter

import pytest
from waiting import until

from mq9.broker.feed import Feed
from mq9.server.limits import ServerLimits

from .hearing import PONG, ROOT, Post
from .test_queue_groups import fill

pytestmark = pytest.mark.unmeasured

MAIL = f"{ROOT}MAILBOX.MSG."


async def open_post(open_hosted, **limits):
    post = Post(await open_hosted(limits=ServerLimits(**limits)))
    await post.ask("MAILBOX.CREATE", b'{"name":"box"}')
    return post


async def nothing_is_left(post, connections=1):
    """See that nothing is kept of subscriptions that have ended; `connections` stay."""
    await until(lambda: post.hosted.server.connections == connections)
    await post.settle()
    server = post.hosted.server
    assert (len(server.hub.pushes), len(server.hub.router), server.hub.in_work) == (0, 0, 0)
    assert post.hosted.broker.waiting == 0
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Feed)]


@pytest.mark.parametrize(
    "subject",
    [
        *("MAILBOX.MSG.*", "MAILBOX.MSG.>", "MAILBOX.MSG.*.urgent", "MAILBOX.MSG.a.*.b"),
        *("MAILBOX.MSG", "MAILBOX.MSG.", "MAILBOX.>", "INBOX.*", "INBOX.*.*", "INBOX.#"),
        *("INBOX", "INBOX.UPPER.*", "INBOX..*", ">", "MSG.FETCH.box", "MAILBOX.QUERY.box"),
    ],
)
async def test_across_mailboxes_and_to_other_verbs_nothing_is_subscribed(post, subject):
    await post.send("secret")
    listener = await post.listen(subject)

    [(name, text)] = await listener.frames()
    assert name == "-ERR"
    assert "Permissions Violation for Subscription" in text or text == "'Invalid Subject'"
    assert len(post.hosted.server.hub.pushes) == 0


@pytest.mark.parametrize("verb", ["MAILBOX.MSG", "INBOX", "BROADCAST"])
@pytest.mark.parametrize("tail", ["x" * 1_024, ".".join("x" * 40)])
async def test_a_subject_that_is_too_long_is_refused(post, verb, tail):
    listener = await post.listen(f"{verb}.{tail}")

    [(name, _)] = await listener.frames()
    assert name == "-ERR"
    assert len(post.hosted.server.hub.router) == 0


@pytest.mark.parametrize("queue", ["q" * 2_000, "\x7f", "\x01"])
async def test_a_queue_group_without_a_name_of_ours_is_refused(post, queue):
    await post.send("x")
    listener = await post.listen(queue=queue)

    [(name, text)] = await listener.frames()
    assert (name, "group_name" in text) == ("-ERR", True)
    await listener.leave()
    await nothing_is_left(post)


async def test_a_connection_has_so_many_subscriptions_to_mail_and_no_more(open_hosted):
    post = await open_post(open_hosted, max_waiting=3)
    listener = await post.listen()
    for number in range(2):
        await listener.subscribe(f"INBOX.absent{number}.*")
    await listener.subscribe()

    assert await listener.frames() == [("-ERR", "'maximum subscriptions exceeded'")]
    await listener.subscribe("BROADCAST.a.b")  # is none to mail
    await listener.unsubscribe(2)
    await listener.subscribe()
    await post.send("x")
    assert await listener.heard() == ["x", "x"]


async def test_one_that_does_not_read_has_no_more_by_unsubscribing(open_hosted):
    post = await open_post(open_hosted, max_waiting=3)
    await post.send("x")
    deaf = await post.listen("MAILBOX.MSG.absent")
    await fill(post, deaf)
    for _ in range(10):
        await deaf.subscribe()
        await deaf.unsubscribe(deaf._subscriptions)  # noqa: SLF001  # the newest

    assert len(post.hosted.server.hub.pushes) == 1
    await deaf.leave()
    await until(lambda: post.hosted.server.connections == 1)
    await post.settle()
    assert len(post.hosted.server.hub.pushes) == 0


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_a_thousand_to_mailboxes_that_are_not_there(post, queue):
    hostile = await post.hosted.raw()
    for number in range(1_000):
        hostile.send(f"SUB {MAIL}absent{number} {queue} {number}\r\n".encode())
    hostile.send(b"PING\r\n")
    assert await hostile.frame() == PONG
    await post.settle()
    assert post.hosted.broker.waiting == 1_000

    await post.send("others are answered")
    await post.clock.advance(120)
    assert len(post.hosted.server.hub.pushes) == 1_000
    await hostile.close()
    await nothing_is_left(post)


async def test_a_thousand_to_one_busy_mailbox(post):
    hostile = await post.hosted.raw()
    for number in range(1_000):
        hostile.send(f"SUB {MAIL}box {number}\r\n".encode())
    hostile.send(b"PING\r\n")
    assert await hostile.frame() == PONG
    member = await post.listen(queue="workers")
    for number in range(5):
        await post.send(str(number))

    assert await member.heard() == list("01234")
    heard = Counter([(await hostile.frame())[3] for _ in range(5_000)])
    assert heard == dict.fromkeys(map(bytes, zip(b"01234", strict=True)), 1_000)
    await member.leave()
    await hostile.close()
    await nothing_is_left(post)


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_subscribing_and_unsubscribing_in_a_loop_leaves_nothing(post, queue):
    await post.send("stored")
    hostile = await post.hosted.raw()
    for round_ in range(30):
        pair = f"SUB {MAIL}box {queue} 1\r\nUNSUB 1\r\n".encode()
        await hostile.send_all(pair * 100 + b"PING\r\n")
        while (await hostile.frame())[0] != "PONG":
            pass
        assert len(post.hosted.server.hub.pushes) <= 100, round_
    await hostile.close()

    await nothing_is_left(post)
    groups = (await post.hosted.broker.totals()).groups
    assert groups == (1 if queue and (await post.group(queue))["exists"] else 0)


async def test_a_drain_does_not_wait_for_subscriptions_that_wait(post):
    listeners = [await post.listen(queue=queue) for queue in ("", "workers", "others")]
    await listeners[0].subscribe("MAILBOX.MSG.absent")
    await post.send("x")
    for listener in listeners:
        assert await listener.heard() == ["x"]

    async with asyncio.timeout(20):
        await post.hosted.server.drain(seconds=3_600)

    assert len(post.hosted.server.hub.pushes) == 0
    for listener in listeners:
        assert [frame[0] for frame in await listener.raw.ended()] == ["INFO"]


async def test_a_subscription_during_a_drain_is_sent_nothing_and_delays_nothing(post):
    deaf = await post.listen(queue="workers")
    await fill(post, deaf)
    await post.send("x")
    listener = await post.listen("MAILBOX.MSG.absent")
    draining = asyncio.create_task(post.hosted.server.drain(seconds=3_600))
    assert (await listener.raw.frame())[0] == "INFO"
    await listener.subscribe()
    assert await listener.frames() == []

    await deaf.leave()

    async with asyncio.timeout(20):
        await draining
    assert len(post.hosted.server.hub.pushes) == 0
