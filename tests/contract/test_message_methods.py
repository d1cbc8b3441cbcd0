"""What a message that was fetched can do by itself, on every connection to a broker."""

import copy
import dataclasses
import pickle

import pytest

from mq9 import InvalidRequest, Mq9Client, NotConnected, ReplyMailboxNotFound

from .parsing import only_read


@pytest.fixture
async def fetched(client, inbox):
    for number in range(4):
        await client.send(inbox, f"{number}")
    return await client.fetch(inbox, group_name="g")


async def left(client, inbox, consumer="another"):
    """The ids that another consumer of the group is given."""
    more = await client.fetch(inbox, group_name="g", consumer=consumer, max_wait_ms=0)
    return [message.msg_id for message in more]


def repickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # its own


async def test_a_message_knows_where_it_was_fetched(client, inbox, fetched):
    for message in fetched:
        assert (message.mail_address, message.group_name) == (inbox, "g")
        assert (message.consumer, message.batch) == (client.consumer, fetched.batch)
    [named] = await client.fetch(inbox, group_name="h", consumer="ada", num_msgs=1)
    assert named.consumer == "ada"
    [read] = await client.fetch(inbox, num_msgs=1)
    assert read.group_name is read.consumer is read.batch is None


async def test_ack_confirms_the_message_and_no_other(way, client, inbox, fetched):
    assert await fetched[2].ack() == [2]
    assert await fetched[2].ack() == [2]
    await way.clock.advance(60)
    assert await left(client, inbox) == [0, 1, 3]


async def test_ack_confirms_those_before_it_when_told_to(client, inbox, fetched):
    assert await fetched[2].ack(individual=False) == [0, 1, 2]


@pytest.mark.parametrize(
    "part",
    [
        lambda fetched: fetched[:3],
        lambda fetched: list(fetched)[1:],
        lambda fetched: [message for message in fetched if message.msg_id % 2],
        lambda fetched: sorted(fetched, key=lambda message: message.payload, reverse=True)[:2],
        lambda fetched: copy.deepcopy(fetched)[1:3],
        lambda fetched: copy.copy(fetched[3:]),
    ],
)
async def test_a_part_of_a_result_is_acked_like_the_result(way, client, inbox, fetched, part):
    chosen = [message.msg_id for message in part(fetched)]
    assert [await message.ack() for message in part(fetched)] == [[one] for one in chosen]
    await way.clock.advance(60)
    assert await left(client, inbox) == [one for one in range(4) if one not in chosen]


async def test_a_client_takes_messages_in_place_of_ids(way, client, inbox, fetched):
    first, second, third, fourth = fetched
    assert await client.ack(first) == [0]
    await client.nack(second, delay=5)
    assert (await client.extend(third, lease=600)).extended == (2,)
    await client.mailbox_create(name="dead")
    assert await client.move(fourth, to="dead", reason="broken") == 0
    await way.clock.advance(5)
    assert await left(client, inbox) == [1]
    assert (await client.query("dead"))[0].moved.reason == "broken"


async def test_nack_gives_back_after_so_many_seconds(way, client, inbox, fetched):
    await fetched[0].nack()
    await fetched[1].nack(delay=1.5)
    assert await left(client, inbox) == [0]
    await way.clock.advance(1.499)
    assert await left(client, inbox, "third") == []
    await way.clock.advance(0.001)
    assert await left(client, inbox, "third") == [1]


async def test_extend_holds_a_message_for_so_many_seconds(way, client, inbox, fetched):
    assert (await fetched[0].extend(lease=90.5)).extended == (0,)
    await way.clock.advance(90.499)
    assert await left(client, inbox) == [1, 2, 3]
    await way.clock.advance(0.001)
    assert await left(client, inbox, "third") == [0]
    assert (await fetched[0].extend()).lost == (0,)


async def test_move_stores_it_there_and_confirms_it_here(client, inbox, fetched):
    await client.mailbox_create(name="dead")
    assert await fetched[1].move("dead", reason="broken") == 0
    [moved] = await client.fetch("dead", group_name="g")
    assert (moved.moved.mailbox, moved.moved.msg_id, moved.text) == (inbox, 1, "1")
    assert (await client.mailbox_status(inbox, group_name="g")).group.moved == 1


async def test_reply_goes_to_whoever_asked(client, inbox):
    await client.mailbox_create(name="asker")
    await client.send(inbox, "6 x 7?", reply_to="asker", correlation_id="c")
    [by_query] = await client.query(inbox)
    [question] = await client.fetch(inbox, group_name="g")
    told = {"sender": "oracle", "headers": {"x": "y"}, "path": ["ada", "oracle"]}
    assert await question.reply({"answer": 42}, from_mailbox=inbox, **told) == 0
    assert await by_query.reply("again") == 1
    answer = (await client.query("asker"))[0]
    assert (answer.json(), answer.sender, answer.correlation_id) == ({"answer": 42}, "oracle", "c")
    assert (dict(answer.headers), answer.path) == ({"x": "y"}, ("ada", "oracle"))
    assert answer.from_mailbox == inbox
    await client.mailbox_drop("asker")
    with pytest.raises(ReplyMailboxNotFound):
        await question.reply("late", id="2")


@only_read
async def test_a_message_of_no_group_is_refused(client, inbox):
    await client.mailbox_create(name="dead")
    await client.send(inbox, "x")
    for message in (*await client.query(inbox), *await client.fetch(inbox)):
        for work in (
            message.ack(),
            message.nack(),
            message.extend(),
            message.move("dead"),
            client.ack(message),
            client.nack(message),
            client.extend(message),
            client.move(message, to="dead"),
        ):
            with pytest.raises(InvalidRequest, match=r"^message: 0 of inbox was not fetched by a"):
                await work
    assert await client.query("dead") == []


@only_read
async def test_what_does_not_go_together_is_refused(client, inbox, fetched):
    message = fetched[0]
    for work, named in (
        (client.ack(message, "g"), "group_name"),
        (client.ack(message, "g", 0), "group_name"),
        (client.ack(message, batch="b"), "batch"),
        (client.ack(message, consumer="c"), "consumer"),
        (client.ack(message, any_consumer=True), "any_consumer"),
        (client.ack("inbox", "g", 0, consumer="c", any_consumer=True), "any_consumer"),
        (client.ack(message, individual="no"), "individual"),
        (client.ack("inbox"), "group_name"),
        (client.ack("inbox", "", 0), "group_name"),
        (client.ack("inbox", "g"), "msg_id"),
        (client.nack(message, delay_ms=5), "delay_ms"),
        (client.nack(message, delay=-1), "delay"),
        (client.nack(message, delay=86_401), "delay"),
        (client.nack(message, delay="5"), "delay"),
        (client.nack("inbox", "g", 0, delay=5), "delay"),
        (client.extend(message, lease_ms=5_000), "lease_ms"),
        (client.extend(message, "g", [0]), "group_name"),
        (client.extend(message, lease=0.5), "lease"),
        (client.extend(message, lease=86_401), "lease"),
        (client.extend("inbox", "g", [0], lease=5), "lease"),
        (client.extend("inbox", "g"), "msg_ids"),
        (client.move(message, to="inbox"), "to"),
        (client.move(message, "g", to="dead"), "group_name"),
    ):
        with pytest.raises(InvalidRequest, match=f"^{named}: "):
            await work
    assert (await client.mailbox_status(inbox, group_name="g")).group.acked == 0


@only_read
async def test_a_message_is_frozen_and_compared_by_what_it_says(way, client, inbox, fetched):
    message = fetched[0]
    [same] = await client.query(inbox, msg_id=0)
    same = dataclasses.replace(
        same,
        **{name: getattr(message, name) for name in ("batch", "group_name", "consumer")},
        delivery_count=1,
    )
    other = await way.client()
    assert same == message
    assert hash(same) == hash(message)
    assert repr(other) not in repr(message)
    assert "client" not in dataclasses.asdict(message)
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.payload = b""


@only_read
async def test_a_pickled_message_goes_to_a_client(way, client, inbox, fetched):
    for message in (repickled(fetched[0]), dataclasses.replace(fetched[0])):
        assert message == fetched[0]
        with pytest.raises(NotConnected, match=r"^message 0 of inbox remembers no client; "):
            await message.ack()
    other = await way.client()
    assert await other.ack(message) == [0]  # whichever client this is
    whole = repickled(fetched)
    assert (whole, whole.batch, whole.lease_until) == (fetched, fetched.batch, fetched.lease_until)


async def test_a_message_of_a_closed_client_says_so(way, client, inbox):
    other = await way.client()
    assert isinstance(other, Mq9Client)
    await client.send(inbox, "x")
    [message] = await other.fetch(inbox, group_name="g")
    await other.close()
    with pytest.raises(NotConnected, match="not connected"):
        await message.ack()
    assert await client.ack(message) == [0]
