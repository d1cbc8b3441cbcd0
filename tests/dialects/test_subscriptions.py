"""Subscriptions without a queue group: what is stored, then what arrives, once each."""

import pytest

from mq9.engine.commands import Limits

from .hearing import headers_of

WORDS = ["low", "normal", "urgent", "high", "critical"]


@pytest.mark.parametrize(
    "subject", [*("MAILBOX.MSG.box", "MAILBOX.MSG.box.*", "INBOX.box", "INBOX.box.>")]
)
async def test_what_is_stored_comes_first_by_priority_then_what_arrives(post, subject):
    for word in WORDS * 2:
        await post.send(word, to=f"box.{word}")

    listener = await post.listen(subject)

    high = ["high", "critical"] * 2  # which are one
    assert await listener.heard() == [*high, *["urgent"] * 2, *["normal"] * 2, *["low"] * 2]
    await post.send("low", to="box.low")
    await post.send("critical", to="box.critical")
    assert await listener.heard() == ["low", "critical"]
    assert await listener.heard() == []


@pytest.mark.parametrize("writer", ["MSG.SEND.box", "MAILBOX.MSG.box", "INBOX.box"])
async def test_it_is_sent_what_any_generation_writes_under_its_own_subject(post, writer):
    second, first = await post.listen(), await post.listen("INBOX.box.*")

    await post.ask(writer, b"hello", [("mq9-priority", "critical")])

    for listener, subject in ((second, "MAILBOX.MSG.box"), (first, "INBOX.box.urgent")):
        [frame] = await listener.frames()
        assert frame[1] == f"$mq9.AI.{subject}"
        assert frame[3] == b"hello"


async def test_each_subscription_is_sent_everything_in_one_connection_too(post):
    await post.send("stored")
    listener = await post.listen()
    await listener.subscribe()
    other = await post.listen()
    await post.send("live")

    assert sorted(await listener.heard()) == ["live", "live", "stored", "stored"]
    assert await other.heard() == ["stored", "live"]
    again = await post.listen()
    assert await again.heard() == ["stored", "live"]


@pytest.mark.parametrize(
    ("subject", "heard"),
    [
        ("MAILBOX.MSG.box.high", ["high", "critical"]),
        ("MAILBOX.MSG.box.urgent", ["urgent"]),
        ("MAILBOX.MSG.box.normal", ["normal"]),
        ("MAILBOX.MSG.box.low", ["low"]),
        ("INBOX.box.urgent", ["high", "critical", "urgent"]),
        ("INBOX.box.normal", ["normal"]),
        ("INBOX.box.notify", ["low"]),
    ],
)
async def test_a_subscription_to_one_priority_is_sent_no_other(post, subject, heard):
    for word in WORDS:
        await post.send(word, to=f"box.{word}")
    listener = await post.listen(subject)
    stored = await listener.frames()
    for word in WORDS:
        await post.send(word, to=f"box.{word}")
    live = await listener.frames()

    assert sorted(frame[3].decode() for frame in stored) == sorted(heard)
    assert sorted(frame[3].decode() for frame in live) == sorted(heard)
    assert {frame[1] for frame in stored + live} == {f"$mq9.AI.{subject}"}


async def test_all_priorities_of_an_address_that_ends_like_one(post):
    await post.ask("MAILBOX.CREATE", b'{"name":"box.normal"}')
    await post.send("for box", to="box.normal")
    await post.ask("INBOX.box.normal.urgent", b"for box.normal")

    for verb in ("INBOX", "MAILBOX.MSG"):
        listener = await post.listen(f"{verb}.box.normal.*")
        [frame] = await listener.frames()
        assert frame[1] == f"$mq9.AI.{verb}.box.normal.urgent"
        assert frame[3] == b"for box.normal"


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_a_mailbox_that_expires_and_is_made_again(post, queue):
    listener = await post.listen("MAILBOX.MSG.brief", queue)
    for turn in ("one", "two"):
        await post.ask("MAILBOX.CREATE", b'{"name":"brief","ttl":10}')
        await post.send(turn, f"{turn} more", to="brief")
        assert await listener.heard() == [turn, f"{turn} more"]
        await post.clock.advance(10)
        assert (await post.ask("MAILBOX.LIST.brief"))["code"] == "mailbox_not_found"
    assert await listener.heard() == []


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_a_mailbox_that_is_dropped_and_made_again_at_once(post, queue):
    await post.send("of the old one")
    listener = await post.listen(queue=queue)
    assert await listener.heard() == ["of the old one"]

    await post.ask("MAILBOX.DROP.box")
    await post.ask("MAILBOX.CREATE", b'{"name":"box"}')
    await post.send("of the new one")

    assert await listener.heard() == ["of the new one"]


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_a_message_that_is_due_later_comes_then(post, queue):
    listener = await post.listen(queue=queue)
    await post.send("later", headers=[("mq9-delay", "100")])
    await post.send("expired", headers=[("mq9-delay", "50"), ("mq9-ttl", "60")])
    await post.clock.advance(49)
    assert await listener.heard() == []
    await post.clock.advance(1)
    assert await listener.heard() == ["expired"]
    await post.clock.advance(50)
    assert await listener.heard() == ["later"]


@pytest.mark.parametrize("stored", [0, 1, 250])
async def test_unsubscribing_after_some_messages(post, stored):
    await post.send(*map(str, range(stored)))
    listener = await post.hosted.raw()
    listener.send(b"SUB $mq9.AI.MAILBOX.MSG.box 1\r\nUNSUB 1 3\r\nPING\r\n")
    assert await listener.frame() == ("PONG",)
    await post.send(*map(str, range(stored, 300)))
    await post.settle()

    assert [(await listener.frame())[3] for _ in range(3)] == [b"0", b"1", b"2"]
    listener.send(b"PING\r\n")
    assert await listener.frame() == ("PONG",)
    assert not post.hosted.broker.waiting


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_what_a_subscription_that_ends_by_itself_was_not_sent_is_left(post, queue):
    address, unread = await post.made()
    listener = await post.listen(f"INBOX.{address}.*", queue)
    await listener.unsubscribe(most=2)
    for body in "abc":
        await post.send(body, to=address, headers=[("mq9-delay", "10")])

    await post.clock.advance(10)  # all at once

    assert await listener.heard() == ["a", "b"]
    if queue:
        again = await post.listen(f"INBOX.{address}.*", queue)
        assert await again.heard() == ["c"]
    else:
        assert "c" in await unread()


async def test_what_the_headers_say(post):
    await post.clock.advance(5)
    own = [("Mine", "grüße: ü"), ("priority", "low"), ("Nats-Trace-Dest", "x")]
    said = {
        "mq9-priority": "urgent",
        "mq9-key": "k",
        "mq9-from": "ada",
        "mq9-reply-to": "box",
        "mq9-correlation-id": "c",
        "mq9-answer-by": "1800000600",
        "mq9-tags": "a,b",
        "mq9-path": "ada,bob",
    }
    listener = await post.listen()
    await post.send("plain")
    await post.send("x", headers=[*own, *said.items()])
    await post.send("lies", headers=[("x-mq9-msg-id", "7")])

    plain, full, lies = map(headers_of, await listener.frames())
    now = str(int(post.clock.now_ms() / 1000))
    always = {"mq9-msg-id": "0", "mq9-priority": "normal", "mq9-create-time": now}
    assert dict(plain) == always
    assert len(dict(full)) == len(full)
    assert dict(full) == {
        **always,
        **said,
        "mq9-msg-id": "1",
        "mine": "grüße: ü",
        "priority": "low",
    }
    assert dict(lies) == {**always, "mq9-msg-id": "2", "x-mq9-msg-id": "7"}


@pytest.mark.parametrize(
    "header", ["mq9-msg-id", "mq9-create-time", "mq9-from-verified", "mq9-overdue"]
)
async def test_a_sender_cannot_write_what_the_broker_says(post, header):
    listener = await post.listen()
    await post.ask("MAILBOX.MSG.box", b"x", [(header, "forged")])

    [frame] = await listener.frames()
    assert "forged" not in dict(headers_of(frame)).values()


async def test_the_broker_says_that_a_notice_is_its_own(post):
    now = int(post.clock.now_ms() / 1000)
    asked = {
        "mq9-reply-to": "box",
        "mq9-correlation-id": "c",
        "mq9-answer-by": f"{now + 5}",
        "mq9-tell-overdue": "true",
    }
    listener = await post.listen()
    await post.send("?", headers=list(asked.items()))
    await post.clock.advance(5)
    question, notice = map(dict, map(headers_of, await listener.frames()))
    assert "mq9-overdue" not in question
    assert notice["mq9-overdue"] == "true"


@pytest.mark.parametrize("queue", ["", "workers"])
async def test_the_largest_messages_come_byte_for_byte(post, queue):
    bodies = [bytes([number]) * Limits().max_payload for number in (0, 13, 10, 255)]
    for body in bodies:
        assert (await post.ask("INBOX.box.normal", body))["error"] == ""

    listener = await post.listen(queue=queue)

    assert [(await listener.raw.frame())[3] for _ in bodies] == bodies
    assert await listener.heard() == []


async def test_what_was_sent_to_an_inbox_is_no_longer_unread(post):
    address, unread = await post.made()
    await post.send("b", to=address)
    await post.send("a", to=f"{address}.urgent")
    assert await unread() == ["a", "b"]
    for other in ("INBOX.{}.normal", "MAILBOX.MSG.{}"):  # are no inbox with all that is in it
        await (await post.listen(other.format(address))).leave()
    await (await post.listen(f"INBOX.{address}.*", "workers")).leave()
    assert await unread() == ["a", "b"]

    listener = await post.listen(f"INBOX.{address}.*")
    assert await listener.heard() == ["a", "b"]
    assert await unread() == []
    await post.send("c", to=address)
    assert await unread() == []
    await listener.leave()
    await post.send("d", to=address)
    assert await unread() == ["d"]
    again = await post.listen(f"INBOX.{address}.*")
    assert await again.heard() == ["a", "b", "c", "d"]
    other = await post.hosted.raw()  # which is sent the beginning of it
    other.send(f"SUB $mq9.AI.INBOX.{address}.* 1\r\nUNSUB 1 1\r\n".encode())
    await other.frame()
    assert await unread() == []


async def test_a_large_mailbox_is_unread_as_far_as_it_was_not_sent(post):
    address, unread = await post.made()
    await post.send(*map(str, range(250)), to=address)
    listener = await post.hosted.raw()
    listener.send(f"SUB $mq9.AI.INBOX.{address}.* 1\r\nUNSUB 1 120\r\n".encode())
    for _ in range(120):
        await listener.frame()

    assert await unread() == [str(n) for n in range(120, 250)]
