"""`mq9 serve --cluster`: several programs that serve one log."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from zlib import crc32

import nats
import pytest
from nats_server import NatsCluster
from waiting import until

from .clusters import Programs
from .traffic import everything

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


@pytest.fixture
async def cluster(tmp_path):
    async with AsyncExitStack() as stack:
        yield Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", 1))


@pytest.mark.quick
async def test_a_killed_one_goes_on_where_it_was_and_nothing_is_lost(cluster):
    one = await cluster.gateway()
    await cluster.gateway()
    client = await cluster.client(request_timeout=2)
    await client.mailbox_create(name="inbox")
    sent = []

    async def send():
        for number in range(200):
            await client.send("inbox", str(number))
            sent.append(str(number))

    sending = asyncio.create_task(send())
    await until(lambda: len(sent) > 50)
    one.kill()
    await until(lambda: len(sent) > 100)
    await asyncio.to_thread(one.start)
    await sending

    assert [message.text for message in await everything(client, "g")] == sent
    code, verified = await cluster.call("verify")
    assert (code, verified["equal"], len(verified["gateways"])) == (0, True, 2)


async def test_one_that_was_stopped_answers_nothing_that_came_meanwhile(cluster):
    one = await cluster.gateway()
    client = await cluster.client(one.url)
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "for who is there")
    asker = await nats.connect(cluster.url)
    one.process.send_signal(signal.SIGSTOP)
    wanted = json.dumps({"group_name": "g", "config": {"num_msgs": 1}}).encode()
    replies = await asker.subscribe("_INBOX.replies")
    await asker.publish("$mq9.AI.MSG.FETCH.inbox", wanted, reply="_INBOX.replies")
    await asker.flush()
    await asyncio.sleep(4)  # longer than a heartbeat allows to serve
    one.process.send_signal(signal.SIGCONT)

    await until(lambda: "leaves the queue group" in one.told)
    await until(lambda: cluster.serves(one))

    assert replies.pending_msgs == 0
    assert [message.text for message in await client.fetch("inbox", group_name="g")] == [
        "for who is there"
    ]
    await asker.close()


async def test_what_reaches_the_port_of_one_that_was_stopped_comes_too_late(cluster):
    one, two = await cluster.gateway(), await cluster.gateway()
    client = await cluster.client(two.url)
    await client.mailbox_create(name="inbox")
    asker = await nats.connect(one.url)
    one.process.send_signal(signal.SIGSTOP)
    asking = asyncio.create_task(asker.request("$mq9.AI.MSG.SEND.inbox", b"first", timeout=30))
    await asyncio.wait([asking], timeout=5)  # as long as a client waits
    await client.send("inbox", "second")
    one.process.send_signal(signal.SIGCONT)

    refused = json.loads((await asking).data)
    assert refused["code"] == "unavailable"
    assert "not carried out; try again" in refused["error"]
    assert [message.text for message in await everything(client, "g")] == ["second"]
    await asker.close()


async def test_nobody_notices_that_one_stops(cluster):
    one, _two = await cluster.gateway(), await cluster.gateway()
    client = await cluster.client(request_timeout=30)  # nobody may have to ask again
    await client.mailbox_create(name="inbox")
    sent = []

    async def send(name):
        for number in range(100):
            msg_id = await client.send("inbox", f"{name}.{number}")
            sent.append(msg_id)

    sending = [asyncio.create_task(send(name)) for name in range(4)]
    await until(lambda: len(sent) > 40)
    one.stop()
    assert await one.ended() == 0
    async with asyncio.timeout(25):
        await asyncio.gather(*sending)

    assert sorted(sent) == list(range(400))


async def test_one_that_was_stopped_until_the_log_was_purged_begins_with_a_snapshot(cluster):
    one, two = await cluster.gateway(), await cluster.gateway()
    client = await cluster.client(two.url)
    await client.mailbox_create(name="inbox")
    one.process.send_signal(signal.SIGSTOP)
    names = f"mq9 gateway {one.name}"

    async def is_disconnected():
        return names not in [known["name"] for known in await server.connections()]

    [server] = cluster.servers.servers
    await until(is_disconnected)
    for _ in range(2):  # the log is kept behind the second newest
        await client.send("inbox", "meanwhile")
        assert (await cluster.call("snapshot"))[0] == 0
    one.process.send_signal(signal.SIGCONT)
    await client.send("inbox", "later")

    assert await one.ended() == 1
    assert "started again, it begins with a snapshot" in one.told
    await asyncio.to_thread(one.start)
    assert "begun from a snapshot" in one.told
    texts = [message.text for message in await everything(await cluster.client(one.url), "g")]
    assert texts == ["meanwhile", "meanwhile", "later"]


async def test_what_is_no_record_is_left_out_and_one_that_cannot_be_read_ends_it(cluster):
    one = await cluster.gateway()
    await cluster.append(b"of another program")
    await until(lambda: "none of mq9" in one.told)
    client = await cluster.client()
    await client.mailbox_create(name="inbox")
    body = b"of a newer release"
    await cluster.append(b"\2%b%b" % (crc32(body, 2).to_bytes(4), body))

    assert await one.ended() == 1
    assert "error: this gateway cannot read the cluster's log" in one.told
    assert await cluster.status() == []
