"""What the tests read out of messages."""

START = 1_800_000_000  # the Unix second at which every test's clock starts


def ids(messages):
    return [message.msg_id for message in messages]


def bodies(messages):
    return [message.text for message in messages]


async def send_all(client, mail_address, *payloads, **options):
    """Send several messages one after the other; their ids."""
    return [await client.send(mail_address, payload, **options) for payload in payloads]
