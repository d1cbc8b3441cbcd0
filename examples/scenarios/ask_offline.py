"""An agent asks another that is offline. Each ends, and starts again when it has something to do.

Scenario 7, a question to an agent that may be offline; and the pattern of request and reply. The
question interrupts the graph of Ann, and the answer resumes it, in another process if need be.
"""

import asyncio
import sys
from typing import TypedDict

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph

from langchain_mq9 import MailboxWorker, Mq9Toolkit
from langchain_mq9.testing import ScriptedModel
from mq9 import Mq9Client


class Report(TypedDict, total=False):
    topic: str
    text: str


def reporter(toolkit):
    async def ask(report: Report) -> Report:
        question = f"How far is {report['topic']}?"
        answer = await toolkit.aask_agent(question, to="ben", mode="interrupt")
        return {"text": f"Ben says of {report['topic']}: {answer}"}

    return StateGraph(Report).add_node(ask).set_entry_point("ask").compile(InMemorySaver())


async def main(server="memory://scenarios.ask.offline"):
    async with Mq9Client(server) as client, Mq9Toolkit(server, agent="ann") as toolkit:
        for name in ("ben", "editor"):
            await client.mailbox_create(name=name, renew=True)
        graph = reporter(toolkit)
        async with MailboxWorker(graph, agent="ann", client=client):
            await client.send("ann", {"topic": "the library"}, reply_to="editor")
            [question] = await client.fetch("ben", max_wait_ms=60_000)  # without a group: it looks
        print("Ann has asked, and is offline:", question.text)

        builder = create_agent(ScriptedModel("72 % done."), [], checkpointer=InMemorySaver())
        async with MailboxWorker(builder, agent="ben", client=client):
            [answer] = await client.fetch("ann.answers", max_wait_ms=60_000)
        print("Ben has answered, and is offline:", answer.text)

        async with MailboxWorker(graph, agent="ann", client=client):
            [report] = await client.fetch("editor", group_name="editor", max_wait_ms=60_000)
        print("The editor reads:", report.json()["text"])
        return {"asked": question.text, "answered": answer.text, **report.json()}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
