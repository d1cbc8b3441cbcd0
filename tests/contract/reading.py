"""What the tests read out of messages, and calls that many of them make."""

import pytest

from mq9 import Forbidden

START = 1_800_000_000  # the Unix second at which every test's clock starts


def ids(messages):
    return [message.msg_id for message in messages]


def bodies(messages):
    return [message.text for message in messages]


async def send_all(client, mail_address, *payloads, **options):
    """Send several messages one after the other; their ids."""
    return [await client.send(mail_address, payload, **options) for payload in payloads]


def looks(client, box):
    """Calls, not yet made, that look into a mailbox."""
    return [client.fetch(box), client.query(box), client.mailbox_status(box)]


def takes(client, box):
    """Calls, not yet made, that take from a mailbox or decide about it; the last removes it."""
    return [
        client.fetch(box, group_name="g", max_wait_ms=0),
        client.fetch(box, group_name="g", force_deliver=True, max_wait_ms=0),
        client.ack(box, "g", 0),
        client.nack(box, "g", 0),
        client.extend(box, "g", [0]),
        client.move(box, "g", 0, to="another"),
        client.delete(box, 0),
        client.mailbox_grant(box, ["bob"]),
        client.mailbox_drop(box),
    ]


async def refused(*calls, match=None, error=Forbidden):
    """Make calls, each of which must be refused."""
    for call in calls:
        with pytest.raises(error, match=match):
            await call
