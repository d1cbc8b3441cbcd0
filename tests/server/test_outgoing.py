"""What clients leave unread: kept once, in order, and within what each, an agent and all may."""

import asyncio
import gc
import random
import socket
import tracemalloc
from collections import Counter

import pytest
from raw import connect, publish
from waiting import until

from mq9.server.limits import ServerLimits
from mq9.server.outgoing import Outgoing, Quota, SharedBody
from mq9.server.users import User, Users

MIB = 1024 * 1024


@pytest.fixture
def deaf():
    """Connect clients that read nothing beyond what their small receive buffers take."""
    sockets = []

    async def listen(hosted, *subjects, **options):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        sockets.append(one)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(one, hosted.server.address)
        await loop.sock_sendall(one, connect(**options))
        for number, subject in enumerate(subjects):
            await loop.sock_sendall(one, f"SUB {subject} {number}\r\n".encode())
        await loop.sock_sendall(one, b"PING\r\n")
        heard = b""
        while b"PONG\r\n" not in heard:
            heard += await loop.sock_recv(one, 4096)
        return one

    yield listen
    for one in sockets:
        one.close()


async def say(talker, *messages):
    """Publish, and see that it was taken."""
    for subject, payload in messages:
        await talker.send_all(publish(subject, payload))
    talker.send(b"PING\r\n")
    assert await talker.frame() == ("PONG",)


def unread_of(hosted, agent):
    return hosted.server.quotas[agent].held if agent in hosted.server.quotas else 0


def unread(hosted):
    return [client.out.pending for client in hosted.server.clients]


async def test_what_goes_to_many_that_do_not_read_is_kept_once(hosted, deaf):
    talker = await hosted.raw()
    for _ in range(80):
        await deaf(hosted, "news")
    tracemalloc.start()
    try:
        for number in range(12):
            await say(talker, ("news", bytes([number]) * MIB))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sum(unread(hosted)) > 400 * MIB
    assert hosted.server.quota.held < 12 * MIB + 80 * 80 * 1024
    assert held < 32 * MIB
    assert hosted.server.connections == 81


async def test_clients_that_read_no_headers_share_a_body_of_their_own(hosted, deaf):
    talker = await hosted.raw()
    for headers in (True, False) * 10:
        await deaf(hosted, "news", headers=headers, no_responders=headers)
    talker.send(publish("news", bytes(8 * MIB // 8), headers=[("a", "b")]) * 8)
    await say(talker)
    assert sum(unread(hosted)) > 100 * MIB
    assert 8 * MIB < hosted.server.quota.held < 2 * 8 * MIB + 20 * 80 * 1024


async def test_beyond_what_all_may_leave_unread_the_one_with_most_is_cut_off(open_hosted, deaf):
    limits = ServerLimits(max_total_pending=12 * MIB)
    hosted = await open_hosted(limits=limits)
    talker, reader = await hosted.raw(), await hosted.raw()
    reader.send(b"SUB small 1\r\nPING\r\n")
    assert await reader.frame() == ("PONG",)
    await deaf(hosted, "small")
    await deaf(hosted, "large")
    for _ in range(6):
        await say(talker, ("small", bytes(MIB)))
    for _ in range(13):
        await say(talker, ("large", bytes(MIB)))

    assert hosted.events.count("slow_consumer") == 1
    assert hosted.server.connections == 3
    assert hosted.server.quota.held <= 12 * MIB
    for _ in range(6):
        assert (await reader.frame())[3] == bytes(MIB)


async def test_an_agent_beyond_its_share_is_cut_off_and_others_are_not(open_hosted, deaf):
    guard = Users([User("a", agent="Ada"), User("b", agent="Bob"), User("o")])
    limits = ServerLimits(max_agent_pending=6 * MIB)
    hosted = await open_hosted(limits=limits, guard=guard)
    talker = await hosted.raw(auth_token="o")
    await deaf(hosted, "ada.1", auth_token="a")
    await deaf(hosted, "ada.2", auth_token="a")
    await deaf(hosted, "bob", auth_token="b")
    for subject, count in (("bob", 6), ("ada.1", 5), ("ada.2", 6)):
        for _ in range(count):
            await say(talker, (subject, bytes(MIB)))
    await until(lambda: hosted.events.count("slow_consumer") == 1)

    agents = sorted(client.session.agent or "" for client in hosted.server.clients)
    assert agents == ["", "Ada", "Bob"]
    assert unread_of(hosted, "Ada") <= 6 * MIB


async def test_who_reads_nothing_for_long_is_cut_off_and_who_reads_slowly_is_not(open_hosted, deaf):
    hosted = await open_hosted()
    talker = await hosted.raw()
    await deaf(hosted, "news")
    slow = await deaf(hosted, "news")
    await say(talker, *[("news", bytes(MIB))] * 14)
    for _ in range(2):
        await hosted.timers.advance(10)
        last = max(hosted.server.clients, key=lambda one: one.number)
        before = last.out.pending
        while last.out.pending == before:
            await asyncio.get_running_loop().sock_recv(slow, 65_536)

    assert hosted.events.count("slow_consumer") == 1
    assert hosted.server.connections == 2


def kept():
    """How much of what counts unread bytes is kept in this process."""
    gc.collect()
    return Counter(type(one) for one in gc.get_objects() if type(one) in (SharedBody, Quota))


async def test_nothing_is_counted_when_everybody_has_left(open_hosted, deaf):
    guard = Users([User("a", agent="Ada"), User("o")])
    hosted = await open_hosted(guard=guard)
    before = kept()
    talker = await hosted.raw(auth_token="o")
    listeners = [await deaf(hosted, "news", auth_token="a") for _ in range(5)]
    await say(talker, *[("news", bytes(MIB))] * 4)
    assert unread_of(hosted, "Ada") > MIB
    for one in listeners:
        one.close()
    await talker.close()
    await until(lambda: hosted.server.connections == 0)

    assert (hosted.server.quota.held, unread_of(hosted, "Ada")) == (0, 0)
    await until(lambda: kept() == before)


class Sender(asyncio.Protocol):
    """One end of a pair of sockets, with what it has been given to send."""

    def __init__(self, quotas):
        self.out = Outgoing(quotas[0], self.cut_off)
        for quota in quotas[1:]:
            self.out.join(quota)

    def connection_made(self, transport):
        self.transport = transport
        self.out.attach(transport)

    def pause_writing(self):
        self.out.pause()

    def resume_writing(self):
        self.out.resume()

    def connection_lost(self, _error):
        self.out.clear()

    def cut_off(self):
        self.out.clear()
        self.transport.abort()


@pytest.mark.parametrize("seed", range(4))
async def test_everything_arrives_once_and_in_order_however_it_is_read(seed):
    dice = random.Random(seed)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    quotas = [Quota(1 << 40), Quota(1 << 40)]
    _, sender = await loop.create_connection(lambda: Sender(quotas), sock=ours)
    shared = [SharedBody(dice.randbytes(size)) for size in (5_000, 70_000, 200_000)]
    sent, heard = bytearray(), bytearray()
    ended = loop.create_future()
    for _ in range(200):
        for _ in range(dice.randrange(1, 5)):
            line = dice.randbytes(dice.choice([1, 50, 4_000]))
            body = dice.choice([None, SharedBody(dice.randbytes(30)), *shared])
            sender.out.write(line, body)
            sent += line + (body.data if body else b"")
        sender.out.flush()
        assert len(sent) - len(heard) - 300_000 < sender.out.pending <= len(sent) - len(heard)
        for _ in range(dice.randrange(4)):
            heard += await loop.sock_recv(theirs, dice.choice([10, 4_096, 65_536]))
    sender.out.finish(lambda: (sender.transport.close(), ended.set_result(None)))
    while chunk := await loop.sock_recv(theirs, 65_536):
        heard += chunk
    await ended
    theirs.close()
    await until(lambda: not quotas[0].members)

    assert heard == sent
    for quota in quotas:
        assert quota.held == 0
        for body in shared:  # counted anew, since nobody waits for it
            quota.hold(body)
        assert quota.held == sum(len(body.data) for body in shared)


async def test_mail_that_many_subscriptions_do_not_read_is_kept_once_and_counted(open_hosted, deaf):
    guard = Users([User("a", agent="Ada"), User("o")])
    hosted = await open_hosted(guard=guard)
    talker = await hosted.raw(auth_token="a")
    await talker.ask("$mq9.AI.MAILBOX.CREATE", b'{"name":"box"}')
    for number in range(4):
        await talker.ask("$mq9.AI.MSG.SEND.box", bytes([number]) * 900_000)
    tracemalloc.start()
    try:
        for _ in range(20):
            await deaf(hosted, *["$mq9.AI.INBOX.box.*"] * 4, auth_token="a")
        await until(lambda: sum(unread(hosted)) > 20 * 500_000)
        await hosted.clock.advance(0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Each is sent one part, of one message, which is the same for all of them.
    assert hosted.server.connections == 21
    assert max(unread(hosted)) < MIB
    assert unread_of(hosted, "Ada") < 2 * MIB + 20 * 80 * 1024
    assert held < 8 * MIB
