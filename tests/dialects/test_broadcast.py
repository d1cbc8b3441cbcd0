"""What is broadcast goes to whoever is subscribed just then, and is not stored."""

import logging

import pytest
from raw import publish

from .hearing import PONG, ROOT


async def say(post, subject, body=b"x", **options):
    """Publish something; the client that did."""
    raw = await post.hosted.raw(**options)
    await raw.send_all(publish(ROOT + subject, body) + b"PING\r\n")
    assert await raw.frame() == PONG
    return raw


@pytest.mark.parametrize(
    ("pattern", "hears"),
    [
        ("BROADCAST.*.alert", {"analytics.alert", "system.alert"}),
        ("BROADCAST.#", {"analytics.complete", "analytics.alert", "system.alert", "system.a.b"}),
        ("BROADCAST.system.#", {"system.alert", "system.a.b"}),
        ("BROADCAST.system.*.b", {"system.a.b"}),
    ],
)
async def test_wildcards_are_as_in_nats_and_a_hash_at_the_end_is_all_that_follows(
    post, pattern, hears
):
    listener = await post.listen(pattern)

    for event in ("analytics.complete", "analytics.alert", "system.alert", "system.a.b"):
        await say(post, f"BROADCAST.{event}", event.encode())

    frames = await listener.frames()
    assert {frame[3].decode() for frame in frames} == hears
    assert len(frames) == len(hears)
    assert {frame[1] for frame in frames} == {f"{ROOT}BROADCAST.{event}" for event in hears}


async def test_nothing_is_stored(post):
    before = await post.hosted.broker.totals()
    await say(post, "BROADCAST.task.available")

    late = await post.listen("BROADCAST.task.available")

    assert await late.heard() == []
    assert await post.hosted.broker.totals() == before


async def test_ten_tasks_are_ten_for_the_workers_together(post):
    workers = [await post.listen("BROADCAST.task.available", "workers") for _ in range(3)]
    everybody = [await post.listen("BROADCAST.#") for _ in range(2)]

    for number in range(10):
        await say(post, "BROADCAST.task.available", str(number).encode())

    heard = [body for worker in workers for body in await worker.heard()]
    assert sorted(heard) == sorted(map(str, range(10)))
    for listener in everybody:
        assert await listener.heard() == list(map(str, range(10)))


async def test_a_request_that_nobody_hears_is_told_so_counted_and_logged(post, caplog):
    caplog.set_level(logging.DEBUG, "mq9")
    asker = await post.hosted.raw(name="asker")
    asker.send(b"SUB _INBOX.a 1\r\n")
    asker.send(publish(f"{ROOT}BROADCAST.a.b", b"who?", reply="_INBOX.a"))

    _, subject, head, _ = await asker.frame()
    assert (subject, head.splitlines()[0]) == ("_INBOX.a", b"NATS/1.0 503")
    assert post.hosted.events.count("unheard") == 1
    [record] = [one for one in caplog.records if "nobody hears" in one.message]
    assert record.levelno == logging.DEBUG
    assert "asker" in record.message
    assert "$mq9.AI.BROADCAST.a.b" in record.message


async def test_only_what_nobody_hears_is_counted_as_that(post):
    listener = await post.listen("BROADCAST.a.*")
    await say(post, "BROADCAST.a.b")
    await say(post, "MAILBOX.MSG.box")  # mail is stored
    await say(post, "MAILBOX.MSG.nowhere")  # and refused where there is no mailbox
    assert post.hosted.events.count("unheard") == 0
    assert await listener.heard() == ["x"]

    await say(post, "BROADCAST.b.b")
    alone = await post.hosted.raw(echo=False)
    alone.send(b"SUB news 1\r\n" + publish("news", b"x") + b"PING\r\n")
    assert await alone.frame() == PONG

    assert post.hosted.events.count("unheard") == 2


@pytest.mark.parametrize("subject", ["BROADCAST", "BROADCASTS.a.b", "BROADCAST.#.a", "BROADCAST."])
async def test_what_is_none_reaches_nobody(post, subject):
    listener = await post.listen(subject)
    await say(post, "BROADCAST.a.a")

    frames = await listener.frames()
    assert {frame[0] for frame in frames} <= {"-ERR"}
