"""A planner gives each task to an agent that can do it, and knows none of them beforehand.

Scenario 8, agents are found by what they can do; and the pattern of capability routing. What nobody
can do is not given to whoever comes nearest.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, StateGraph

from langchain_mq9 import MailboxWorker
from mq9 import Mq9Client

SKILLS = {
    "translator": "Translates Chinese letters into English",
    "jurist": "Reads contracts and warns of unfair clauses",
}
TASKS = ["Translate this Chinese letter", "Is this contract unfair?", "Simulate a quantum circuit"]


class State(TypedDict, total=False):
    task: str
    mailbox: str
    answer: str


def specialist(name):
    graph = StateGraph(State).add_node("work", lambda state: {"answer": f"{name} does it"})
    return graph.set_entry_point("work").compile(InMemorySaver())


def planner(client):
    async def find(state: State) -> State:
        found = await client.agent_discover(semantic=state["task"], limit=1)
        return {"mailbox": found[0].match.mailbox} if found else {"answer": "nobody can do that"}

    async def ask(state: State) -> State:
        return (await client.request(state["mailbox"], {"task": state["task"]})).json()

    graph = StateGraph(State).add_node(find).add_node(ask).set_entry_point("find")
    graph.add_conditional_edges("find", lambda state: "ask" if "mailbox" in state else END)
    return graph.compile()


async def main(server="memory://scenarios.capability.routing"):
    async with Mq9Client(server) as client, AsyncExitStack() as workers:
        for name, skills in SKILLS.items():
            worker = MailboxWorker(specialist(name), agent=name, capabilities=skills, client=client)
            await workers.enter_async_context(worker)
        done = await planner(client).abatch([{"task": task} for task in TASKS])
    return {state["task"]: state["answer"] for state in done}


if __name__ == "__main__":
    print(*asyncio.run(main(*sys.argv[1:])).items(), sep="\n")
