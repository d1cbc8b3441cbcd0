"""A device gets the commands that were sent to it while it was offline, the most pressing first.

Scenario 5, the cloud commands a device that is offline; and the pattern cloud to edge. A command
with a key replaces the one before it, and one that is only good for a while expires by itself.
"""

import asyncio
import sys

from mq9 import Mq9Client, Priority


async def command(server):
    """What the cloud sends while the device is offline."""
    async with Mq9Client(server) as cloud:
        await cloud.mailbox_create(name="edge.pump", renew=True)
        done = await cloud.mailbox_create(prefix="edge.done", ttl=86_400)
        for payload, options in (
            ({"do": "report"}, {}),
            ({"do": "set interval", "seconds": 60}, {"key": "interval"}),
            ({"do": "set interval", "seconds": 30}, {"key": "interval"}),
            ({"do": "restart"}, {"priority": Priority.URGENT, "ttl": 600}),
            ({"do": "stop the pump"}, {"priority": Priority.CRITICAL}),
        ):
            await cloud.send("edge.pump", payload, reply_to=done, **options)
        return done


async def reconnect(server):
    """The device is online again, and does what it finds."""
    async with Mq9Client(server) as device:
        for message in await device.fetch("edge.pump", group_name="device"):
            print("the device does:", message.json())
            await message.reply({"done": message.json()})
            await message.ack()


async def main(server="memory://scenarios.edge.commands"):
    done = await command(server)
    print("Five commands are sent; the device is offline.")
    await reconnect(server)
    async with Mq9Client(server) as cloud:
        answers = await cloud.fetch(done, group_name="cloud")
        left = (await cloud.mailbox_status("edge.pump", group_name="device")).group.pending.total
        print(f"The cloud knows of {len(answers)} that are done; {left} are left.")
        return {"done": [answer.json()["done"] for answer in answers], "left": left}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
