"""A sub-agent finishes its task while nobody waits for it, and the result is there all the same.

Scenario 1, a task's result comes back later; and the pattern of a sub-agent's result. The
orchestrator gives the task a private mailbox for the result, and ends. The sub-agent is a graph
that a worker runs for each message. Later another process, which needs to know nothing but that
address, reads the result.
"""

import asyncio
import sys
from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langchain_mq9 import MailboxWorker
from mq9 import Mq9Client


class Report(TypedDict, total=False):
    text: str
    words: int
    summary: str


def count(report: Report) -> Report:
    return {"words": len(report["text"].split())}


def summarise(report: Report) -> Report:
    return {"summary": f"{report['words']} words, beginning with {report['text'][:12]!r}"}


steps = StateGraph(Report).add_sequence([count, summarise]).add_edge(START, "count")
analyst = steps.compile(InMemorySaver())


async def main(server="memory://scenarios.task.result"):
    async with Mq9Client(server) as orchestrator:
        await orchestrator.mailbox_create(name="analyst", renew=True)
        result = await orchestrator.mailbox_create(prefix="result", ttl=3600)
        await orchestrator.send("analyst", {"text": "It was a good year."}, reply_to=result)
    print("The orchestrator has delegated the task and ended.")

    async with (
        MailboxWorker(analyst, agent="analyst", server=server),
        Mq9Client(server) as orchestrator,
    ):
        [answer] = await orchestrator.fetch(result, group_name="orchestrator", max_wait_ms=60_000)
        await answer.ack()
    print("It has started again and reads:", answer.json()["summary"])
    return answer.json()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
