"""SEND: what is stored comes back byte for byte, under ids that only grow."""

import pytest

from mq9 import PayloadTooLarge

from .reading import START, ids, send_all

MIB = 1024 * 1024


async def test_ids_count_from_zero_in_each_mailbox_and_none_is_used_again(client, inbox):
    other = await client.mailbox_create(name="other")

    assert await send_all(client, inbox, "a", "b", "c") == [0, 1, 2]
    await client.delete(inbox, 2)
    assert await client.send(inbox, "d") == 3
    assert await client.send(other, "a") == 0


async def test_bytes_come_back_byte_for_byte(client, inbox):
    payloads = [b"", bytes(range(256)), b"\0\0\0", b"\xff\xfe broken \xc3\x28 utf-8"]
    payloads += ["snow ☃, 雪, \0 and \u2028".encode(), b'{"error": "no such thing"}']
    payloads += [bytearray(b"\0\x80\xff"), memoryview(b"\0\x80"), b"\r\n\r\nNATS/1.0\r\n"]
    await send_all(client, inbox, *payloads)

    for read in (
        await client.query(inbox),
        await client.fetch(inbox, deliver="earliest"),
        await client.fetch(inbox, group_name="g", deliver="earliest"),
    ):
        assert [message.payload for message in read] == payloads


async def test_a_million_bytes_of_everything_come_back(client, inbox):
    payload = bytes(range(256)) * 4096
    assert len(payload) == MIB

    await client.send(inbox, payload)

    assert (await client.fetch(inbox, group_name="g", deliver="earliest"))[0].payload == payload


async def test_one_byte_more_than_a_mebibyte_is_refused(client, inbox):
    with pytest.raises(PayloadTooLarge, match=r"max_payload.*1048577.*1048576"):
        await client.send(inbox, bytes(MIB + 1))
    assert await client.query(inbox) == []


async def test_text_is_utf_8_and_the_rest_is_json(client, inbox):
    await send_all(client, inbox, "grüße", {"a": [1, None, "雪"]}, [1, 2], ("x",), "")

    found = await client.query(inbox)

    assert [message.payload for message in found] == [
        "grüße".encode(),
        '{"a":[1,null,"雪"]}'.encode(),
        b"[1,2]",
        b'["x"]',
        b"",
    ]
    assert found[1].json() == {"a": [1, None, "雪"]}
    assert found[0].text == "grüße"


async def test_everything_said_beside_the_payload_comes_back(client, inbox):
    await client.send(
        inbox,
        "x",
        priority="urgent",
        key="k 1",
        tags=["b", "a", "b", "中文"],
        sender="Ada Lovelace",
        reply_to="ada.inbox",
        correlation_id="q/1 = ?",
        path=["a", "b", "a"],
        ttl=60,
    )

    [message] = await client.fetch(inbox, group_name="g", deliver="earliest")

    assert (message.msg_id, message.priority, message.key) == (0, "urgent", "k 1")
    assert message.tags == ("b", "a", "中文")
    assert (message.sender, message.sender_verified) == ("Ada Lovelace", False)
    assert (message.reply_to, message.correlation_id) == ("ada.inbox", "q/1 = ?")
    assert message.path == ("a", "b", "a")
    assert message.create_time == START
    assert message.delivery_count == 1


async def test_what_was_not_said_is_not_there(client, inbox):
    await client.send(inbox, "x")

    [message] = await client.query(inbox)

    assert message.key is message.sender is message.reply_to is message.correlation_id is None
    assert message.tags == message.path == ()
    assert message.priority == "normal"
    assert not message.sender_verified
    assert message.delivery_count == 0
    assert message.batch is None


async def test_the_longest_option_of_256_characters_is_kept(client, inbox):
    longest = "雪" * 256
    await client.send(
        inbox,
        "x",
        key=longest,
        id=longest,
        sender=longest,
        correlation_id=longest,
        tags=[longest] + [f"t{number}" for number in range(63)],
        path=[longest] * 64,
    )

    [message] = await client.query(inbox, key=longest)
    assert message.key == message.sender == message.correlation_id == message.tags[0] == longest
    assert (len(message.tags), len(message.path)) == (64, 64)


async def test_create_time_is_the_second_of_becoming_visible(way, client, inbox):
    await client.send(inbox, "now")
    await client.send(inbox, "later", delay=7)
    await way.clock.advance(3.999)
    await client.send(inbox, "then")
    await way.clock.advance(100)

    found = await client.query(inbox)

    assert [message.create_time - START for message in found] == [0, 3, 7]


async def test_time_goes_on_a_tenth_slower_though_the_clock_steps_back(way, client, inbox):
    await client.send(inbox, "a")
    way.clock.set_back(3600)
    await client.send(inbox, "b")
    await client.send(inbox, "delayed", delay=10)
    await way.clock.advance(20)
    await client.send(inbox, "c")
    await way.clock.advance(3600)
    await client.send(inbox, "d")

    found = await client.query(inbox)

    assert ids(found) == [0, 1, 2, 3, 4]
    assert [message.create_time - START for message in found] == [0, 0, 10, 18, 3258]


async def test_nothing_is_lost_or_stuck_while_the_clock_is_back(way, client, inbox):
    await client.send(inbox, "a", ttl=100)
    await client.fetch(inbox, group_name="g", deliver="earliest", lease_ms=10_000)
    way.clock.set_back(86_400)
    await client.send(inbox, "b")

    assert ids(await client.fetch(inbox, group_name="g", redeliver_own=False)) == [1]
    await client.ack(inbox, "g", 1)
    await way.clock.advance(11.1)
    others = {"group_name": "g", "redeliver_own": False, "max_wait_ms": 0}
    assert ids(await client.fetch(inbox, **others)) == []
    await way.clock.advance(0.1)
    assert ids(await client.fetch(inbox, **others)) == [0]
