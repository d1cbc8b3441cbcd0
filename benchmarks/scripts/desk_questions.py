"""What the first screen of the desk costs with many open questions: times and memory.

Run it with `.venv/bin/python -m benchmarks.scripts.desk_questions`. It fills a file in a directory
that is removed.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
from pathlib import Path

import httpx

from benchmarks.scripts.conversations import timed
from mq9 import Mq9Client
from mq9.desk.app import Desk, make_routes, standalone
from mq9.desk.people import OnePerson, Person
from mq9.desk.screens import ROUTES
from mq9.questions import TAG, Action, MailedQuestion

_BASE = "http://127.0.0.1"


async def ask(client: Mq9Client, count: int) -> None:
    """Ask for so many letters."""
    for name in ("boss", "lawyer"):
        await client.mailbox_create(name=name)
    for number in range(count):
        letter = Action(name="send_email", args={"to": f"customer {number}", "text": "x" * 200})
        question = MailedQuestion(text=f"May I send letter {number}?", actions=(letter,))
        body, id_ = question.to_json(), str(number)
        asked = {"sender": "lawyer", "reply_to": "lawyer", "correlation_id": id_, "tags": [TAG]}
        await client.send("boss", body, **asked)


async def measure(path: Path, questions: int) -> None:
    """Get the page and its parts, and answer one question."""
    async with Mq9Client(f"sqlite:///{path}") as client:
        await ask(client, questions)
        desk = Desk(OnePerson(lambda: client), client.clock, only=Person.named("boss"))
        transport = httpx.ASGITransport(standalone(make_routes(desk, ROUTES)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with httpx.AsyncClient(transport=transport, base_url=_BASE) as http:
            await http.get("/desk/enter", params={"link": desk.link.renew()})

            async def get(url: str) -> None:
                reply = await http.get(url)
                reply.raise_for_status()

            for name, url in [
                ("the first page of the desk", "/desk"),
                ("its last page", f"/desk?from={questions - 50}"),
                ("one question", "/desk/questions/7"),
            ]:
                await timed(name, lambda url=url: get(url))
            size = len((await http.get("/desk")).content)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"the page has {size >> 10} KiB; memory: {before >> 10} MiB, with it {after >> 10} MiB")


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory) / "mq9.db", options.questions))


if __name__ == "__main__":
    main()
