"""The client that others published of the second generation, `robustmq`: what it writes.

It sends by a publish to a priority, and subscribes to all of them with a wildcard at the end.
"""

import pytest


@pytest.mark.parametrize("wildcard", ["*", ">"])
@pytest.mark.parametrize("queue", ["", "workers"])
async def test_a_subscription_to_all_priorities_is_sent_each_with_its_own(hosted, wildcard, queue):
    async with await hosted.client() as client:
        await client.mailbox_create(name="box")
    connection = await hosted.nats()
    for priority in ("low", "normal", "urgent", "high"):
        await connection.publish(f"$mq9.AI.MAILBOX.MSG.box.{priority}", priority.encode())
    await connection.flush()

    subscription = await connection.subscribe(f"$mq9.AI.MAILBOX.MSG.box.{wildcard}", queue)
    messages = [await subscription.next_msg(30) for _ in range(4)]

    words = ["high", "urgent", "normal", "low"]
    assert [message.subject.rpartition(".")[2] for message in messages] == words
    assert [message.data.decode() for message in messages] == words


async def test_a_wildcard_in_place_of_a_mailbox_is_refused(hosted):
    raw = await hosted.raw()
    for subject in ("MAILBOX.MSG.*", "MAILBOX.MSG.>", "MAILBOX.MSG.*.urgent", "MAILBOX.MSG.a.*.*"):
        raw.send(f"SUB $mq9.AI.{subject} 1\r\n".encode())
        kind, told = await raw.frame()
        assert kind == "-ERR"
        assert told.startswith(f'\'Permissions Violation for Subscription to "$mq9.AI.{subject}"')
