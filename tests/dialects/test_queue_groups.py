"""Subscriptions with a queue group: each message goes to one member, once."""

import asyncio
import itertools
import random
from collections import Counter

import orjson
import pytest
from raw import publish
from waiting import until

from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.server.limits import ServerLimits

from .hearing import Post

pytestmark = pytest.mark.unmeasured

WORKERS = "workers"
MIB = 1024 * 1024


async def fill(post, member):
    """Let a member read no more, and fill what its socket holds."""
    await hear_noise(member)
    await make_noise(post, MIB)


async def hear_noise(member):
    """Subscribe a member to messages that no test looks at."""
    member.raw.send(b"SUB noise 0\r\nPING\r\n")
    assert await member.raw.frame() == ("PONG",)


async def make_noise(post, least):
    """Send what nobody waits for until so many bytes of it are left unread."""
    talker = await post.hosted.raw()
    while post.hosted.server.quota.held < least:
        await talker.send_all(publish("noise", bytes(MIB)) + b"PING\r\n")
        assert await talker.frame() == ("PONG",)
    await talker.close()


async def test_each_message_goes_to_one_member_of_each_group(post):
    await post.send(*map(str, range(150)))
    groups = {
        name: [await post.listen(queue=name) for _ in range(3)] for name in (WORKERS, "audit")
    }
    alone = await post.listen()
    await post.send(*map(str, range(150, 300)))

    expected = Counter(map(str, range(300)))
    for name, members in groups.items():
        heard = Counter()
        for member in members:
            heard.update(await member.heard())
        assert heard == expected
        group = await post.group(name)
        assert group["leased"] == []
        assert set(group["pending"].values()) == {0}
    assert Counter(await alone.heard()) == expected


@pytest.mark.parametrize("members", [2, 3])
async def test_idle_members_share_what_comes_at_once(post, members):
    idle = [await post.listen(queue=WORKERS) for _ in range(members)]
    sender = await post.hosted.raw()
    sent = [str(number) for number in range(40)]
    await sender.send_all(
        b"".join(publish("$mq9.AI.MAILBOX.MSG.box", body.encode()) for body in sent) + b"PING\r\n"
    )
    assert await sender.frame() == ("PONG",)

    heard = await asyncio.gather(*(member.heard() for member in idle))

    assert sorted(itertools.chain(*heard)) == sorted(sent)
    assert min(map(len, heard)) >= 40 // members // 2, heard


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_members_do_each_message_is_heard_once(post, seed, scale):
    dice = random.Random(seed)
    heard, sent, members = Counter(), 0, []
    waits = await post.listen(queue=WORKERS)
    for _ in range(60 * scale):
        does = dice.choice(
            ["send", "send", "send", "join", "join", "twice", "end", "most", "leave"]
        )
        member = dice.choice(members) if members else None
        if does == "send":
            many = dice.choice([1, 1, 3, 120])
            await post.send(*(f"{sent + number}" for number in range(many)))
            sent += many
        elif does == "join":
            members.append(await post.listen(queue=WORKERS))
        elif member is None:
            continue
        elif does == "twice":
            await member.subscribe(queue=WORKERS)
        elif does == "end":
            await member.unsubscribe(dice.randint(1, 3))
        elif does == "most":
            await member.unsubscribe(dice.randint(1, 3), dice.randint(1, 150))
        else:
            heard.update(await member.heard())
            members.remove(member)
            await member.leave()
    for member in (waits, *members):
        heard.update(await member.heard())

    assert heard == Counter(map(str, range(sent)))
    group = await post.group(WORKERS)
    assert (group["leased"], set(group["pending"].values())) == ([], {0})


async def test_consumers_of_the_current_generation_are_members_too(post):
    fetch = orjson.dumps({"group_name": WORKERS, "config": {"max_wait_ms": 0}})
    await post.send("fetched")
    reply = await post.ask("MSG.FETCH.box", fetch)
    [fetched] = reply["messages"]
    member = await post.listen(queue=WORKERS)
    await post.send("pushed")

    assert await member.heard() == ["pushed"]
    assert [one["payload"] for one in (await post.ask("MSG.FETCH.box", fetch))["messages"]] == [
        "fetched"  # to whom it is leased
    ]
    nack = orjson.dumps({"group_name": WORKERS, "msg_id": fetched["msg_id"]})
    assert (await post.ask("MSG.NACK.box", nack))["error"] == ""
    assert await member.heard() == ["fetched"]
    assert (await post.ask("MSG.FETCH.box", fetch))["messages"] == []
    await post.clock.advance(60)
    assert await member.heard() == []


async def test_what_a_subscription_holds_is_not_given_to_a_fetch_of_its_connection(post):
    await post.send("x")
    session = BrokerSession("connection.1")
    broker = post.hosted.broker
    feed = broker.feed(session, "box", WORKERS, None)
    async with feed.next() as held:
        pass
    assert len(held.messages) == 1

    fetch = orjson.dumps({"group_name": WORKERS, "config": {"max_wait_ms": 0}})
    reply = await broker.handle(PublishedRequest("$mq9.AI.MSG.FETCH.box", fetch, (), session))

    assert orjson.loads(reply)["messages"] == []


async def test_no_message_is_confirmed_that_waits_in_the_socket_of_one_that_never_reads(post):
    deaf = await post.listen(queue=WORKERS)
    await post.send(*map(str, range(400)))
    group = await post.group(WORKERS)
    assert sum(lease["count"] for lease in group["leased"]) == 1
    assert group["pending"]["normal"] == 399

    await deaf.leave()
    member = await post.listen(queue=WORKERS)
    heard = await member.heard()
    assert sorted(heard, key=int) == list(map(str, range(400)))


async def test_one_whose_socket_is_full_is_given_nothing(post):
    deaf = await post.listen(queue=WORKERS)
    await fill(post, deaf)
    await post.send("a", "b")
    assert (await post.group(WORKERS))["leased"] == []

    member = await post.listen(queue=WORKERS)
    assert await member.heard() == ["a", "b"]


async def test_the_share_of_one_that_never_reads_goes_to_the_others_after_a_lease(post):
    await post.listen(queue=WORKERS)
    await post.send("a", "b")  # one for it, the other when it has read the first
    await post.settle()
    [lease] = (await post.group(WORKERS))["leased"]
    assert lease["count"] == 1

    member = await post.listen(queue=WORKERS)
    assert await member.heard() == ["b"]
    await post.clock.advance(59)
    assert await member.heard() == []
    await post.clock.advance(1)

    assert await member.heard() == ["a"]
    assert (await post.group(WORKERS))["leased"] == []


async def test_a_member_that_is_cut_off_has_had_nothing(post):
    deaf = await post.listen(queue=WORKERS)
    await hear_noise(deaf)
    await post.send(*"abc")
    await make_noise(post, MIB)
    member = await post.listen(queue=WORKERS)
    assert await member.heard() == ["b", "c"]

    for _ in range(3):
        await post.hosted.timers.advance(10)
    await until(lambda: post.hosted.server.connections == 2)

    assert "slow_consumer" in post.hosted.events
    assert await member.heard() == ["a"]


async def test_who_unsubscribes_while_it_is_sent_something_has_it_and_nobody_else(post):
    slow = await post.listen(queue=WORKERS)
    await post.send("a")
    await post.settle()
    await slow.unsubscribe()
    await post.send("b")
    member = await post.listen(queue=WORKERS)

    assert await slow.heard() == ["a"]
    assert await member.heard() == ["b"]
    await post.clock.advance(60)
    assert await member.heard() == []
    assert (await post.group(WORKERS))["leased"] == []


async def test_it_is_confirmed_when_it_was_read_though_more_waits_for_the_client(open_hosted):
    post = Post(await open_hosted(limits=ServerLimits(max_pending=64 * MIB)))
    await post.ask("MAILBOX.CREATE", b'{"name":"box"}')
    slow = await post.listen(queue=WORKERS)
    await hear_noise(slow)
    await post.send("a")
    await post.settle()
    await make_noise(post, 24 * MIB)

    assert (await slow.raw.frame())[3] == b"a"
    assert (await slow.raw.frame())[1] == "noise"  # a PING was before it

    await post.settle()
    assert post.hosted.server.quota.held > MIB
    assert (await post.group(WORKERS))["leased"] == []


async def test_of_a_batch_whose_writing_cuts_a_client_off_nothing_is_confirmed(open_hosted):
    post = Post(await open_hosted(limits=ServerLimits(max_pending=200_000)))
    await post.ask("MAILBOX.CREATE", b'{"name":"box"}')
    await post.send(*(f"{number} ".ljust(5_000, "x") for number in range(100)))

    cut = await post.hosted.raw()
    cut.send(b"SUB $mq9.AI.MAILBOX.MSG.box workers 1\r\n")
    await cut.ended()
    await post.settle()

    group = await post.group(WORKERS)
    assert (group["leased"], group["pending"]["normal"]) == ([], 100)


async def test_a_group_that_a_mailbox_has_no_room_for_is_told_so(post):
    replies = [
        await post.ask(
            "MSG.FETCH.box", orjson.dumps({"group_name": f"g{n}", "config": {"max_wait_ms": 0}})
        )
        for n in range(1_100)
    ]
    assert replies[-1]["code"] == "limit_reached"

    member = await post.listen(queue=WORKERS)

    [(name, text)] = await member.frames()
    assert name == "-ERR"
    assert text.startswith(
        '\'Permissions Violation for Subscription to "$mq9.AI.MAILBOX.MSG.box", max_groups: '
    )
    assert not post.hosted.broker.waiting
    assert not post.hosted.server.hub.router.has_interest("$mq9.AI.MAILBOX.MSG.box")


@pytest.mark.parametrize("priority", ["MAILBOX.MSG.box.urgent", "INBOX.box.notify"])
async def test_a_group_is_not_for_one_priority(post, priority):
    member = await post.listen(priority, WORKERS)

    [(name, text)] = await member.frames()
    assert name == "-ERR"
    assert "a queue group is given messages of every priority" in text


async def test_two_hundred_subscriptions_of_which_one_never_reads(post):
    deaf = await post.listen()
    await fill(post, deaf)
    others = [await post.hosted.raw() for _ in range(199)]
    for raw in others:
        raw.send(b"SUB $mq9.AI.MAILBOX.MSG.box 1\r\n")
    sent = [f"{number} ".ljust(100_000, "x") for number in range(60)]  # 6 MB

    async def read(raw):
        return [(await raw.frame())[3].decode() for _ in sent]

    reading = [asyncio.create_task(read(raw)) for raw in others]
    before = post.hosted.server.quota.held
    await post.send(*sent)
    for one in asyncio.as_completed(reading):
        assert await one == sent

    await post.settle()
    assert post.hosted.server.quota.held <= before + 2 * MIB  # a batch, and what is encoded of it
