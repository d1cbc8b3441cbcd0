"""What is written in one generation is read in each."""

import pytest

from tests.contract.parsing import way_name  # noqa: F401  # a fixture

from .generations import (
    BY_PRIORITY,
    FIRST,
    GENERATIONS,
    LANES,
    LOW,
    READERS,
    WORDS,
    fetch,
    list_all,
    make,
    query,
    unread,
    write,
)

pytestmark = pytest.mark.unmeasured


@pytest.mark.parametrize("maker", GENERATIONS)
@pytest.mark.parametrize("writer", GENERATIONS)
async def test_it_has_its_body_its_place_and_its_priority(way, maker, writer):
    box = await make(way, maker)
    words = WORDS[writer]
    for word in words:
        await write(way, writer, box.address, word.encode(), word)

    for read in READERS:
        if read is unread and maker != FIRST:
            continue  # only mailboxes of the first generation have a token
        messages = await read(way, box)
        expected = list(words)
        if read in BY_PRIORITY:
            # Only the first generation knows a priority below normal.
            is_last = LOW if read is unread else set()
            expected.sort(key=lambda word: (LANES.index(words[word]), word in is_last))
        assert [message["payload"] for message in messages] == expected, read
        for message in messages:
            word = message["payload"]
            assert message["priority"] == words[word]
            assert (message.get("headers", {}).get("priority") == "low") == (word in LOW)
            assert message["msg_id"] == list(words).index(word)


@pytest.mark.parametrize("delete", ["MSG.DELETE", "MAILBOX.DELETE"])
@pytest.mark.parametrize("writer", GENERATIONS)
async def test_what_is_deleted_in_one_is_gone_from_all(way, writer, delete):
    box = await make(way, FIRST)
    removed = await write(way, writer, box.address, b"removed")
    await write(way, writer, box.address, b"kept")

    reply = await way.ask(f"{delete}.{box.address}.{removed}")

    assert (reply["error"], reply["deleted"]) == ("", True)
    for read in READERS:
        assert [message["payload"] for message in await read(way, box)] == ["kept"], read
    again = await way.ask(f"{delete}.{box.address}.{removed}")
    assert again["code"] == "message_not_found"


@pytest.mark.parametrize("writer", GENERATIONS)
async def test_a_message_that_has_expired_is_in_none(way, writer):
    box = await make(way, FIRST)
    await write(way, writer, box.address, b"brief", "normal", ("mq9-ttl", "10"))
    await write(way, writer, box.address, b"kept")
    await way.clock.advance(9)
    assert len(await list_all(way, box)) == 2

    await way.clock.advance(1)

    for read in READERS:
        assert [message["payload"] for message in await read(way, box)] == ["kept"], read


@pytest.mark.parametrize("maker", GENERATIONS)
async def test_a_mailbox_that_has_expired_is_there_in_none(way, maker):
    box = await make(way, maker, ttl=60)
    await way.clock.advance(59)
    for writer in GENERATIONS:
        await write(way, writer, box.address, b"x")

    await way.clock.advance(1)

    for verb, body in (
        ("MSG.SEND.box", b"x"),
        ("MAILBOX.MSG.box.urgent", b"x"),
        ("INBOX.box.normal", b"x"),
        ("MSG.QUERY.box", b""),
        ("MAILBOX.LIST.box", b""),
        ("MAILBOX.DELETE.box.0", b""),
        ("MAILBOX.QUERY.box", {"token": box.token or "any"}),
        ("MSG.FETCH.box", {"config": {"max_wait_ms": 0}}),
    ):
        assert (await way.ask(verb, body))["code"] == "mailbox_not_found", verb


async def test_a_notice_expires_after_a_day_unless_it_says_otherwise(way):
    box = await make(way, FIRST)
    sent = {
        "a day": (),
        "longer": (("mq9-ttl", "100000"),),
        "a day from then": (("mq9-delay", "50000"),),
    }
    for body, headers in sent.items():
        await write(way, FIRST, box.address, body.encode(), "notify", *headers)
    await write(way, FIRST, box.address, b"for ever", "normal")
    await way.ask(f"MAILBOX.MSG.{box.address}.low", b"for ever, too")
    await way.clock.advance(86_399)
    assert len(await query(way, box)) == 5

    await way.clock.advance(1)
    left = {message["payload"] for message in await query(way, box)}
    assert left == {"longer", "a day from then", "for ever", "for ever, too"}
    await way.clock.advance(50_000)
    left = {message["payload"] for message in await query(way, box)}
    assert left == {"for ever", "for ever, too"}


@pytest.mark.parametrize(("verb", "words"), [("MAILBOX.MSG", "low"), ("INBOX", "notify")])
async def test_the_subject_says_what_a_header_beside_it_says_otherwise(way, verb, words):
    box = await make(way, FIRST)

    reply = await way.ask(f"{verb}.box.{words}", b"x", ("Priority", "high"), ("other", "stays"))

    assert reply["error"] == ""
    [message] = await list_all(way, box)
    assert message["priority"] == "normal"
    assert message["headers"] == {"priority": "low", "other": "stays"}
    await way.ask(f"{verb}.box.urgent", b"y", ("mq9-priority", "normal"))
    assert (await list_all(way, box))[-1]["priority"] == "urgent"


@pytest.mark.parametrize("verb", ["MAILBOX.MSG", "INBOX"])
async def test_without_a_priority_it_is_what_the_header_says_or_normal(way, verb):
    box = await make(way, FIRST)

    await way.ask(f"{verb}.box", b"x")
    await way.ask(f"{verb}.box", b"y", ("mq9-priority", "critical"))

    assert [one["priority"] for one in await list_all(way, box)] == ["normal", "critical"]


@pytest.mark.parametrize("verb", ["MAILBOX.MSG", "INBOX"])
async def test_an_address_that_ends_like_a_priority_is_reached_with_one_after_it(way, verb):
    await make(way, FIRST, "box")
    ends_so = await make(way, FIRST, "box.urgent")

    await way.ask(f"{verb}.box.urgent", b"for box")
    await way.ask(f"{verb}.box.urgent.normal", b"for box.urgent")

    assert [one["payload"] for one in await list_all(way, ends_so)] == ["for box.urgent"]


async def test_a_list_has_the_newest_thousand_oldest_first(way):
    box = await make(way, FIRST)
    for number in range(1_003):
        await way.ask("MSG.SEND.box", str(number).encode(), wants_reply=False)

    reply = await way.ask("MAILBOX.LIST.box")

    assert [one["payload"] for one in reply["messages"]] == [str(n) for n in range(3, 1_003)]
    assert reply["more"] is True
    reply = await way.ask("MAILBOX.QUERY.box", {"token": box.token})
    assert [one["payload"] for one in reply["messages"]] == [str(n) for n in range(1_000)]
    assert (reply["unread"], reply["more"]) == (1_000, True)


@pytest.mark.parametrize("read", [fetch, list_all, unread])
async def test_bytes_that_are_no_text_are_read_in_each(way, read):
    box = await make(way, FIRST)
    for generation in GENERATIONS:
        await write(way, generation, box.address, b"\xff\x00\xfe")

    for message in await read(way, box):
        assert message["encoding"] == "base64"
        assert message["payload"] == "/wD+"


@pytest.mark.parametrize("writer", GENERATIONS)
async def test_it_is_among_the_conversations(open_way, writer):
    way = open_way(agents=["ada"])
    operator = await way.client()
    box = await make(way, FIRST)
    await write(way, writer, box.address, b"Tea?")

    [one] = (await operator.conversations()).conversations
    assert (one.text, one.state, one.mailboxes) == ("Tea?", "waiting", (box.address,))
    [read] = (await operator.conversation(one.id)).messages
    assert (read.message.text, read.message.mail_address) == ("Tea?", box.address)
