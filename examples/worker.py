"""A worker that ends cleanly: on SIGTERM or Ctrl-C it finishes what it has begun, in time.

It handles the mailbox `jobs` on the broker that MQ9_SERVER names, else on the file of this user's
programs. Send it work with `mq9 send jobs "water the plants"`. A job that is a number takes so many
seconds.
"""

import asyncio
import signal

from mq9 import Mq9Client, Reject


async def handle(message):
    print("begun:", message.text, flush=True)
    if not message.text:
        raise Reject("there is nothing to do")
    await asyncio.sleep(float(message.text) if message.text.isdecimal() else 0)
    print("done:", message.text, flush=True)
    return f"{message.text}, done"


async def main():
    async with Mq9Client() as client:
        for name in ("jobs", "jobs.dead"):
            await client.mailbox_create(name=name, renew=True)
        worker = await client.consume(
            "jobs",
            handle,
            group_name="workers",
            concurrency=4,
            dead_letter="jobs.dead",
            handler_timeout=60,  # for one job
            stop_timeout=2,  # less than whoever sends SIGTERM waits before SIGKILL
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.request_stop)
        print("ready", flush=True)
        await worker.wait()
        done = worker.counters
        print(f"stopped: {done.processed} done, {done.interrupted} given back", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
