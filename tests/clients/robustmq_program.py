"""Mails itself by the client `robustmq`, and prints what it was given, as JSON.

Usage: robustmq_program.py URL [NAME]
"""

import asyncio
import json
import sys

from robustmq.mq9 import Client
from robustmq.mq9.client import Mq9Error


async def main(url, *name):
    said = {}
    options = {"name": name[0]} if name else {}
    async with Client(url, **options) as client:
        mailbox = await client.create(ttl=60)
        public = [
            await client.create(ttl=60, public=True, name="town.square", desc="News")
            for _ in range(2)
        ]
        said["public"] = [one.mail_id for one in public]
        for priority in ("low", "normal", "high"):
            await client.send(mailbox.mail_id, priority, priority=priority)
        listed = await client.list(mailbox.mail_id)
        said["listed"] = [[one.msg_id, one.priority, one.ts > 0] for one in listed]

        heard = asyncio.Queue()
        await client.subscribe(mailbox.mail_id, heard.put)
        messages = [await asyncio.wait_for(heard.get(), 30) for _ in listed]
        said["heard"] = [[one.payload.decode(), one.priority] for one in messages]

        await client.delete(mailbox.mail_id, listed[0].msg_id)
        said["left"] = [one.msg_id for one in await client.list(mailbox.mail_id)]
        said["refused"] = []
        for call in (client.delete(mailbox.mail_id, "99"), client.list("nowhere")):
            try:
                await call
            except Mq9Error as error:
                said["refused"].append([str(error), error.code])
    sys.stdout.write(json.dumps(said))


asyncio.run(main(*sys.argv[1:]))
