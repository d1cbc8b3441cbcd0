"""What the screens of the desk cost where one mailbox has a million messages: times and memory.

Run it with `.venv/bin/python -m benchmarks.scripts.desk_screens`. Most of it fills a file in a
directory that is removed.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
from pathlib import Path

import httpx

from benchmarks.scripts.conversations import alone, fill, timed
from mq9 import Mq9Client
from mq9.desk.app import Desk, make_routes, standalone
from mq9.desk.people import OnePerson, Person
from mq9.desk.screens import ROUTES

_BASE = "http://127.0.0.1"


async def measure(path: Path, messages: int) -> None:
    """Build the index, then get pages."""
    person = Person.named("boss")
    async with Mq9Client(f"sqlite:///{path}") as client:
        while (await client.conversations(limit=1)).building is not None:
            pass
        desk = Desk(OnePerson(lambda: client), client.clock, only=person)
        app = standalone(make_routes(desk, ROUTES))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=_BASE) as http:
            await http.get("/desk/enter", params={"link": desk.link.renew()})

            async def get(url: str) -> None:
                reply = await http.get(url)
                reply.raise_for_status()

            of_mailbox = "/desk/mailboxes/one?mailbox=agent0"
            for name, url in [
                ("conversations", "/desk/conversations"),
                ("conversations of a mailbox", "/desk/conversations?mailbox=agent0"),
                ("a conversation of 300 messages", "/desk/conversations/one?id=long"),
                ("agents", "/desk/agents"),
                ("stuck", "/desk/stuck"),
                ("mailboxes", "/desk/mailboxes"),
                ("the newest messages of the mailbox", of_mailbox),
                ("those in its middle", f"{of_mailbox}&before={messages // 2}"),
                ("those that are pending", f"{of_mailbox}&state=pending"),
                ("a message with its story", "/desk/mailboxes/message?mailbox=agent0&id=7"),
                ("a search for nothing", "/desk/search?q=xyzzy"),
            ]:
                await timed(name, lambda url=url: get(url))
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at most")


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mq9.db"
        fill(path, alone(options.messages), 1)
        asyncio.run(measure(path, options.messages))


if __name__ == "__main__":
    main()
