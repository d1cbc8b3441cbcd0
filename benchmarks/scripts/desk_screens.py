"""Measure the screens of the desk: a mailbox of a million messages, 10 000 open questions.

Run it with `.venv/bin/python -m benchmarks.scripts.desk_screens`. Most of it fills files in a
directory that is removed. The page server is `mq9 desk` on such a file, a program of its own with
the broker in it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

import httpx
import orjson

from benchmarks.scripts.conversations import alone, fill, timed
from mq9 import Mq9Client
from mq9.engine.commands import Call
from mq9.protocol.requests import Send
from mq9.questions import RECEIPTS, TAG, Action, MailedQuestion

PERSON = "agent0"  # whose mailbox is filled


def questions(count: int) -> Iterator[Call[Send]]:
    """Make questions of workers, whether a letter may be sent, which expire one after the other."""
    for number in range(count):
        text = f"We will answer letter {number} by the end of next week. " * 10
        asked = MailedQuestion(
            text=f"Send letter {number}?",
            actions=(Action(name="send_email", args={"to": "customer", "text": text}),),
            expires=4_000_000_000 - number,
        )
        ask = Send(
            sender="lawyer",
            reply_to="lawyer.answers",
            correlation_id=f"q{number}",
            tags=(TAG,),
            headers=((RECEIPTS, "yes"),),
        )
        yield Call(ask, PERSON, payload=orjson.dumps(asked.to_json()))


@asynccontextmanager
async def desk(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the desk of a file; a browser that was let in. Says at the end what memory it took."""
    arguments = ("--as", PERSON, "--no-open", "--url", f"sqlite:///{path}", "--port", "0")
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mq9", "desk", *arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        link = (await program.stdout.readline() if program.stdout else b"").decode().strip()
        async with httpx.AsyncClient(base_url=urljoin(link, "/"), timeout=600) as browser:
            await browser.get(link)
            before = highest_mib(program.pid)
            yield browser
            print(f"memory: {before} MiB at first, {highest_mib(program.pid)} MiB at most")
    finally:
        program.terminate()
        await program.wait()


def highest_mib(pid: int) -> int:
    """Return the most memory that a process has had, as Linux tells it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) >> 10 if found else 0


async def measure(path: Path, pages: list[tuple[str, str]]) -> None:
    """Get pages of the desk of a file."""
    async with desk(path) as browser:

        async def get(url: str) -> None:
            (await browser.get(url)).raise_for_status()

        for name, url in pages:
            await timed(name, partial(get, url))


async def build_index(path: Path) -> None:
    """Build the index of conversations, as the first look at that screen does in steps."""
    async with Mq9Client(f"sqlite:///{path}") as client:
        while (await client.conversations(limit=1)).building is not None:
            pass


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "questions.db"
        fill(path, questions(options.questions), 1)
        print(f"{options.questions} open questions")
        of_questions = [
            ("the most urgent questions", "/desk"),
            ("those in the middle", f"/desk?from={options.questions // 2}"),
            ("one question", "/desk/questions/7"),
            ("decisions", "/desk/decisions"),
        ]
        asyncio.run(measure(path, of_questions))

        path = Path(directory) / "messages.db"
        fill(path, alone(options.messages), 1)
        asyncio.run(build_index(path))
        print(f"a mailbox of {options.messages} messages")
        of_mailbox = f"/desk/mailboxes/one?mailbox={PERSON}"
        of_messages = [
            ("conversations", "/desk/conversations"),
            ("conversations of a mailbox", f"/desk/conversations?mailbox={PERSON}"),
            ("a conversation of 300 messages", "/desk/conversations/one?id=long"),
            ("agents", "/desk/agents"),
            ("stuck", "/desk/stuck"),
            ("mailboxes", "/desk/mailboxes"),
            ("the newest messages of the mailbox", of_mailbox),
            ("those in its middle", f"{of_mailbox}&before={options.messages // 2}"),
            ("those that are pending", f"{of_mailbox}&state=pending"),
            ("a message with its story", f"/desk/mailboxes/message?mailbox={PERSON}&id=7"),
            ("a search for nothing", "/desk/search?q=xyzzy"),
            ("no questions among the messages", "/desk"),
        ]
        asyncio.run(measure(path, of_messages))


if __name__ == "__main__":
    main()
