"""Requests of mq9 over a socket: who gets the reply, and who holds a lease."""

import orjson
import pytest
from raw import publish
from waiting import until

FETCH = {"group_name": "g", "deliver": "earliest", "config": {"max_wait_ms": 60_000}}


async def _inbox(hosted):
    client = await hosted.client()
    return client, await client.mailbox_create(name="inbox")


async def _leased(client):
    status = await client.mailbox_status("inbox", group_name="g")
    return status.group.leased


async def test_a_reply_is_no_business_of_others(hosted):
    spy = await hosted.raw()
    spy.send(b"SUB > 1\r\nSUB _INBOX.> 2\r\nSUB $mq9.AI.> 3\r\nPING\r\n")
    assert (await spy.frame())[0] == "-ERR"
    assert await spy.frame() == ("PONG",)
    client, inbox = await _inbox(hosted)
    await client.send(inbox, "secret")
    other = await hosted.raw()
    other.send(publish(f"$mq9.AI.MSG.QUERY.{inbox}", b"", reply="_INBOX.of.the.spy") + b"PING\r\n")
    assert await other.frame() == ("PONG",)

    assert [message.text for message in await client.query(inbox)] == ["secret"]
    spy.send(b"PING\r\n")
    assert await spy.frame() == ("PONG",)


@pytest.mark.parametrize(
    "how", ["never subscribed", "unsubscribed", "has had its message", "is cut off", "has left"]
)
async def test_who_reads_no_reply_is_leased_nothing(hosted, how):
    client, inbox = await _inbox(hosted)
    if how == "never subscribed":
        await client.send(inbox, "x")
    other = await hosted.raw()
    if how != "never subscribed":
        other.send(b"SUB in 1\r\nSUB in.* 2\r\n")
    other.send(publish(f"$mq9.AI.MSG.FETCH.{inbox}", orjson.dumps(FETCH), reply="in"))
    if how == "never subscribed":
        other.send(b"PING\r\n")
        assert await other.frame() == ("PONG",)
    else:
        await until(lambda: hosted.broker.waiting)
    if how == "unsubscribed":
        other.send(b"UNSUB 1\r\n")
    if how == "has had its message":
        other.send(b"UNSUB 1 1\r\n" + publish("in", b"stray"))
    if how == "is cut off":
        other.send(b"NONSENSE\r\n")
    if how == "has left":
        await other.close()
    await until(lambda: not hosted.broker.waiting)
    await client.send(inbox, "x")

    assert await _leased(client) == ()


async def test_a_waiter_keeps_waiting_while_another_subscription_covers_its_reply(hosted):
    client, inbox = await _inbox(hosted)
    other = await hosted.raw()
    other.send(b"SUB in.a 1\r\nSUB in.* 2\r\n")
    other.send(publish(f"$mq9.AI.MSG.FETCH.{inbox}", orjson.dumps(FETCH), reply="in.a"))
    await until(lambda: hosted.broker.waiting)
    other.send(b"UNSUB 1\r\nPING\r\n")
    assert await other.frame() == ("PONG",)
    await client.send(inbox, "x")

    _, _, _, reply = await other.frame()
    assert [item["payload"] for item in orjson.loads(reply)["messages"]] == ["x"]


async def test_what_was_sent_before_the_end_of_a_connection_is_stored(hosted):
    client, inbox = await _inbox(hosted)
    other = await hosted.raw()
    await other.send_all(publish(f"$mq9.AI.MSG.SEND.{inbox}", b"x") * 500)
    await other.close()
    await until(lambda: hosted.server.connections == 1)

    assert (await client.mailbox_status(inbox)).stored == 500


async def test_requests_of_one_connection_take_effect_in_order(hosted):
    client, inbox = await _inbox(hosted)
    await hosted.clock.advance(120)  # so that a sweep is due among them
    other = await hosted.raw()
    for number in range(300):
        other.send(publish(f"$mq9.AI.MSG.SEND.{inbox}", str(number).encode()))
    other.send(b"PING\r\n")
    assert await other.frame() == ("PONG",)

    async def all_are_stored():
        return (await client.mailbox_status(inbox)).stored == 300

    await until(all_are_stored)
    stored = await client.query(inbox, limit=1_000)
    assert [int(message.text) for message in stored] == list(range(300))


async def test_what_is_carried_out_at_once_does_not_overtake_a_fetch(hosted):
    client, inbox = await _inbox(hosted)
    await client.send(inbox, "x")
    other = await hosted.raw()
    body = orjson.dumps({**FETCH, "config": {"max_wait_ms": 0}})
    other.send(
        b"SUB in.* 1\r\n"
        + publish(f"$mq9.AI.MSG.FETCH.{inbox}", body, reply="in.fetch")
        + publish(f"$mq9.AI.MAILBOX.DROP.{inbox}", b"", reply="in.drop")
    )

    replies = {}
    for _ in range(2):
        _, subject, _, reply = await other.frame()
        replies[subject] = orjson.loads(reply)
    assert [item["payload"] for item in replies["in.fetch"]["messages"]] == ["x"]
    assert replies["in.drop"]["error"] == ""


async def test_each_connection_without_a_consumer_is_one_of_its_own(hosted):
    client, inbox = await _inbox(hosted)
    await client.send(inbox, "x")
    one, two = await hosted.nats(), await hosted.nats()
    body = orjson.dumps({**FETCH, "config": {"max_wait_ms": 0}})

    async def fetched_by(connection):
        reply = await connection.request(f"$mq9.AI.MSG.FETCH.{inbox}", body)
        return len(orjson.loads(reply.data)["messages"])

    assert [await fetched_by(one), await fetched_by(two), await fetched_by(one)] == [1, 0, 1]


async def test_the_largest_message_goes_through_with_headers(hosted):
    client, inbox = await _inbox(hosted)
    largest = bytes(1024 * 1024)
    other = await hosted.raw()

    headers = [("mq9-key", "k" * 256), ("mq9-tags", ",".join(f"{n:0200}" for n in range(64)))]
    stored = orjson.loads(await other.ask(f"$mq9.AI.MSG.SEND.{inbox}", largest, headers))
    assert stored == {"error": "", "msg_id": 0}
    assert (await client.query(inbox))[0].payload == largest


async def test_a_reply_may_be_larger_than_a_message(hosted):
    client, inbox = await _inbox(hosted)
    for number in range(8):
        await client.send(inbox, bytes([number]) * 1024 * 1024)

    found = await client.query(inbox, max_bytes=64 * 1024 * 1024)
    assert [message.payload[0] for message in found] == list(range(8))


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (b"NATS/1.0\r\nmq9-key: \xff\r\n\r\n", "UTF-8"),
        (b"NATS/1.0\r\nmq9-key: a\r\n b\r\n\r\n", "' b' is not one header"),
        (b"HTTP/1.1\r\n\r\n", "no block of NATS/1.0"),
        (b"NATS/1.0\r\na: " + b"x" * 70_000 + b"\r\n\r\n", "70017 bytes are more than 65536"),
    ],
)
async def test_headers_that_cannot_be_read_are_named_and_nothing_is_done(hosted, block, told):
    client, inbox = await _inbox(hosted)
    other = await hosted.raw()
    other.send(b"SUB in 1\r\nHPUB $mq9.AI.MSG.SEND.%b in " % inbox.encode())
    other.send(b"%d %d\r\n%bx\r\n" % (len(block), len(block) + 1, block))

    _, _, _, reply = await other.frame()
    assert told in orjson.loads(reply)["error"]
    assert (await client.mailbox_status(inbox)).stored == 0


async def test_a_subject_of_any_bytes_is_answered(hosted):
    client = await hosted.raw()
    client.send(b"SUB in 1\r\nPUB $mq9.AI.MSG.SEND.\xff\x00 in 0\r\n\r\n")
    _, _, _, reply = await client.frame()
    assert orjson.loads(reply)["code"] == "invalid_address"
