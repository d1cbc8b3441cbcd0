"""A planner gives each task to an agent that can do it, and knows none of them beforehand.

Scenario 8, agents say what they can do and others find them; and the pattern of capability routing.
What nobody can do is not given to whoever comes nearest.
"""

import asyncio
import sys
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from mq9 import Mq9Client

SKILLS = {
    "translator": "Translates Chinese letters into English",
    "jurist": "Reads contracts and warns of unfair clauses",
}
TASKS = ["Translate this Chinese letter", "Is this contract unfair?", "Simulate a quantum circuit"]


class Routing(TypedDict, total=False):
    task: str
    mailbox: str
    answer: str


def planner(client):
    async def find(routing: Routing) -> Routing:
        found = await client.agent_discover(semantic=routing["task"], limit=1)
        return {"mailbox": found[0].match.mailbox} if found else {"answer": "nobody can do that"}

    async def ask(routing: Routing) -> Routing:
        return {"answer": (await client.request(routing["mailbox"], routing["task"])).text}

    graph = StateGraph(Routing).add_node(find).add_node(ask).add_edge(START, "find")
    graph.add_conditional_edges("find", lambda routing: "ask" if "mailbox" in routing else END)
    return graph.compile()


async def start(client, name, skills):
    await client.agent_register({"name": name, "payload": skills})
    await client.consume(name, lambda task: f"{name} does it", group_name=name, agent=name)


async def main(server="memory://capability.routing"):
    async with Mq9Client(server) as client:
        for name, skills in SKILLS.items():
            await start(client, name, skills)
        results = [await planner(client).ainvoke({"task": task}) for task in TASKS]
        for result in results:
            print(f"{result['task']}: {result['answer']}")
        return {result["task"]: result["answer"] for result in results}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
