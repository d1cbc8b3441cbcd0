"""Priorities: what is handed out first, and what a cut reply leaves for the next."""


async def test_the_most_pressing_come_first_even_when_fewer_are_asked_for(client, inbox):
    for number, priority in enumerate(["normal", "urgent", "critical", "normal", "critical"]):
        assert await client.send(inbox, str(number), priority=priority) == number

    first = await client.fetch(inbox, group_name="g", deliver="earliest", num_msgs=3)
    rest = await client.fetch(inbox, group_name="g", redeliver_own=False)

    assert [message.msg_id for message in first] == [2, 4, 1]
    assert first.more
    assert [message.msg_id for message in rest] == [0, 3]
    assert not rest.more
