"""Graphs that send mail with a tool; as a program, runs one that is killed when it has sent."""

import asyncio
import os
import signal
import sqlite3
import sys
import threading
from contextlib import asynccontextmanager

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent
from langgraph.types import interrupt

from langchain_mq9 import Mq9Toolkit
from langchain_mq9.testing import ScriptedModel

THREAD = {"configurable": {"thread_id": "a thread"}}


@tool
def approve() -> str:
    """Ask a person."""
    return f"approved: {interrupt('May I?')}"


@tool("approve")
def wait_to_be_killed() -> str:
    """Ask nobody: what would pause the graph waits until the other tool has done its work."""
    threading.Event().wait()
    raise AssertionError


def calling(*names):
    """Say what the model says: it calls tools, numbering its calls from one as some models do."""
    arguments = {
        "send_message": {"mail_address": "boss", "content": "the report"},
        "create_mailbox": {"ttl": 600},
    }
    calls = [
        {"name": name, "args": arguments.get(name, {}), "id": f"call-{number}"}
        for number, name in enumerate(names, 1)
    ]
    return AIMessage("", tool_calls=calls)


def tool_node(model, tools, checkpointer):
    """Make a graph of a model's first message and a bare ToolNode."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    return graph.compile(checkpointer=checkpointer)


GRAPHS = {
    "create_agent": create_agent,
    "create_react_agent": create_react_agent,
    "ToolNode": tool_node,
}


@asynccontextmanager
async def opened(directory, kind, *steps, mode, approve=approve):
    """Open a graph whose mail and checkpoints are files in a directory."""
    model = ScriptedModel(*steps)
    with Mq9Toolkit(f"sqlite:///{directory}/mail.db", agent="clerk") as toolkit:
        tools = [*toolkit.get_tools(), approve]
        file = f"{directory}/checkpoints.db"
        if mode == "async":
            async with AsyncSqliteSaver.from_conn_string(file) as saver:
                yield GRAPHS[kind](model, tools, checkpointer=saver).ainvoke
        else:
            connection = sqlite3.connect(file, check_same_thread=False)
            graph = GRAPHS[kind](model, tools, checkpointer=SqliteSaver(connection))

            async def invoke(*arguments, **options):
                return await asyncio.to_thread(graph.invoke, *arguments, **options)

            yield invoke
            connection.close()


class Killer(BaseCallbackHandler):
    """Kills the process when a tool has done its work, before the graph knows."""

    run_inline = True

    def on_tool_end(self, output, **_):
        os.kill(os.getpid(), signal.SIGKILL)


async def main(directory, kind, mode, *names):
    """Run a graph that is killed."""
    question = {"messages": [("human", "Report.")]}
    config = THREAD | {"callbacks": [Killer()]}
    graph = opened(directory, kind, calling(*names), mode=mode, approve=wait_to_be_killed)
    async with graph as invoke:
        await invoke(question, config, durability="sync")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
