"""Requests of one connection take effect in the order of their arrival at a gateway."""

import json

import pytest

pytestmark = pytest.mark.programs

FETCH = json.dumps(
    {"group_name": "g", "config": {"max_wait_ms": 0, "deliver": "earliest"}}
).encode()


async def test_requests_of_one_connection_are_in_order(members):
    await members.start("one")
    client, asker = await members.client(), await members.asker()
    await client.mailbox_create(name="inbox")
    inbox = asker.new_inbox()
    heard = await asker.subscribe(f"{inbox}.*")
    expected, stored = {}, 0
    for number in range(60):
        reply = f"{inbox}.{number}"
        # One of three SENDs is no part of a batch.
        verb, payload, headers = [
            ("SEND", b"%d" % number, {"mq9-id": f"{number}"}),
            ("FETCH", FETCH, None),
            ("SEND", b"%d" % number, {"mq9-key": f"{number}"}),
            ("SEND", b"%d" % number, None),
        ][number % 4]
        await asker.publish(f"$mq9.AI.MSG.{verb}.inbox", payload, reply=reply, headers=headers)
        if verb == "FETCH":
            expected[reply] = stored
        else:
            stored += 1
    fetched, sent = {}, []
    for _ in range(60):
        message = await heard.next_msg(10)
        told = json.loads(message.data)
        assert told["error"] == ""
        if message.subject in expected:
            fetched[message.subject] = [one["msg_id"] for one in told["messages"]]
        else:
            sent.append((message.subject, told["msg_id"]))
    # Each FETCH gives what was sent before it, with what its consumer was given and has not acked.
    assert fetched == {reply: [*range(count)] for reply, count in expected.items()}
    assert [
        msg_id for _, msg_id in sorted(sent, key=lambda one: int(one[0].rpartition(".")[2]))
    ] == ([*range(stored)])
