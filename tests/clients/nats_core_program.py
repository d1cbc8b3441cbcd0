"""Mails itself by the client `nats-core`, and prints each reply as JSON, one a line.

Usage: nats_core_program.py URL
"""

import asyncio
import sys

from nats.client import connect


async def main(url):
    client = await connect(url)
    for verb, payload, headers in (
        ("MAILBOX.CREATE", b'{"name": "core"}', {}),
        ("MSG.SEND.core", b"hello", {"mq9-priority": "urgent", "x-kind": "greeting"}),
        ("MSG.FETCH.core", b'{"group_name": "g"}', {}),
        ("MSG.ACK.core", b'{"group_name": "g", "msg_id": 0}', {}),
        ("MSG.FETCH.core", b'{"group_name": "g", "config": {"max_wait_ms": 0}}', {}),
        ("MSG.FETCH.nowhere", b"{}", {}),
    ):
        reply = await client.request(f"$mq9.AI.{verb}", payload, headers=headers, timeout=30)
        sys.stdout.write(reply.data.decode() + "\n")
    await client.close()


asyncio.run(main(sys.argv[1]))
