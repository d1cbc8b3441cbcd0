"""A graph whose node gathers answers; as a program, runs it in a thread and prints what it got."""

import asyncio
import operator
import sys
from typing import Annotated, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph

from langchain_mq9 import Mq9Toolkit, Question

THREAD = {"configurable": {"thread_id": "a thread"}}
WORKERS = ("ada", "bob", "eve")


class State(TypedDict, total=False):
    topic: str
    answers: Annotated[list[str], operator.add]


def gathering(toolkit, checkpointer=None, workers=WORKERS, **options):
    """Make a graph of one node, which asks workers about a topic."""

    async def ask(state):
        questions = [Question(state["topic"], to=name) for name in workers]
        gathered = await toolkit.agather(questions, **options)
        return {"answers": [one.text for one in gathered.answers]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    return graph.compile(checkpointer=checkpointer)


async def main(directory):
    saver = AsyncSqliteSaver.from_conn_string(f"{directory}/checkpoints.db")
    with Mq9Toolkit(f"sqlite:///{directory}/mail.db", agent="boss") as toolkit:
        async with saver as checkpointer:
            app = gathering(toolkit, checkpointer)
            is_resumed = bool((await app.aget_state(THREAD)).next)
            said = None if is_resumed else {"topic": "tea"}
            sys.stdout.write(
                " ".join((await app.ainvoke(said, THREAD, durability="sync"))["answers"])
            )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
