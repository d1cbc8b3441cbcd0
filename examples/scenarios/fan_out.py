"""Workers share a queue: each task goes to one of them, and a crash loses none.

Scenario 3, tasks for workers that compete; and the pattern of the worker queue. The workers are one
agent; they may come and go. One takes two tasks and crashes. When its lease has ended, others get
them. Each result arrives once.
"""

import asyncio
import sys
from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langchain_mq9 import MailboxWorker
from mq9 import Mq9Client


class Chapter(TypedDict, total=False):
    text: str
    translation: str


def translate(chapter: Chapter) -> Chapter:
    return {"translation": chapter["text"].upper()}


graph = StateGraph(Chapter).add_node(translate).add_edge(START, "translate")
translator = graph.compile(InMemorySaver())  # several processes share one on disk


async def crash(server):
    async with Mq9Client(server) as client:
        options = {"num_msgs": 2, "lease_ms": 1_000}  # for a second
        taken = await client.fetch("translator", group_name="translator", **options)
    print("a worker crashes with", *(message.json()["text"] for message in taken))


async def main(server="memory://scenarios.fan.out"):
    async with Mq9Client(server) as client:
        await client.mailbox_create(name="translator", renew=True)
        book = await client.mailbox_create(prefix="book", ttl=3600)
        for number in range(1, 13):
            await client.send("translator", {"text": f"chapter {number:02}"}, reply_to=book)
        await crash(server)

        chapters = []
        ada, bob = (MailboxWorker(translator, agent="translator", server=server) for _ in "ab")
        async with ada, bob:
            while len(chapters) < 12:
                for message in await client.fetch(book, group_name="press", max_wait_ms=60_000):
                    chapters.append(message.json()["translation"])
                    await message.ack()
    print("ada did", ada.counters.started, "and bob", bob.counters.started)
    return sorted(chapters)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
