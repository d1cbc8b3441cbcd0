"""A supervisor sees how all workers are, without asking them.

Scenario 2, status of all workers. Each worker has a mailbox of the type `latest`, which keeps its
newest report only. The mailbox expires unless the worker reports again, so who crashes disappears.
"""

import asyncio
import sys

from mq9 import MailboxNotFound, Mq9Client


async def report(client, worker, ttl=60, **status):
    """Report a status; `ttl` is for how many seconds it holds unless it is renewed."""
    address = await client.mailbox_create(
        name=f"status.{worker}", type="latest", ttl=ttl, public=True, renew=True
    )
    await client.send(address, status)
    return address


async def overview(client):
    """Return what each worker that reports has reported; that is its newest report."""
    found = {}
    for mailbox in await client.mailbox_list():
        if mailbox.mail_address.startswith("status."):
            reports = await client.query(mailbox.mail_address)
            found[mailbox.mail_address.removeprefix("status.")] = [one.json() for one in reports]
    return found


async def expired(client, address):
    """Wait for a mailbox to expire: a read that waits there is told."""
    while True:
        try:
            await client.fetch(address, deliver="new", max_wait_ms=60_000)
        except MailboxNotFound:
            return


async def main(server="memory://scenarios.worker.status"):
    async with Mq9Client(server) as client:
        await report(client, "ada", load=0.2)
        await report(client, "ada", load=0.9)  # in place of the one before
        await report(client, "bob", load=0.3)
        crashed = await report(client, "eve", ttl=1, load=0.5)  # and never again

        await expired(client, crashed)
        seen = await overview(client)
        for worker, reports in seen.items():
            print(worker, *reports)
        print("eve no longer reports")
        return seen


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
