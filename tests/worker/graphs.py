"""Graphs that note what they do, and what tests of workers share."""

import asyncio
import contextlib
import operator
from typing import Annotated

from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from typing_extensions import TypedDict

from langchain_mq9 import MailboxWorker
from langchain_mq9.worker.records import WorkerAgent
from langchain_mq9.worker.turns import Turns

LEASE_S = 15


class State(TypedDict, total=False):
    topic: str
    trail: Annotated[list[str], operator.add]


class Steps:
    """A graph of steps one after another, which notes what they do.

    A step does what `acts` says under its name, if anything, and then notes itself.
    """

    def __init__(self, *names, **acts):
        self.ran = []
        self.acts = acts
        self.builder = StateGraph(State)
        before = START
        for name in names:
            self.builder.add_node(name, self._step(name))
            self.builder.add_edge(before, name)
            before = name
        self.builder.add_edge(before, END)

    def _step(self, name):
        async def step(state, config):
            self.ran.append(name)
            if name in self.acts:
                await self.acts[name](state, config)
            return {"trail": [name]}

        return step

    def compile(self, saver=None):
        return self.builder.compile(checkpointer=saver or InMemorySaver())


def echo(saver=None):
    """A graph over messages: it says how many there are, and what the last one says."""

    def answer(state):
        said = state["messages"]
        return {"messages": [AIMessage(f"{len(said)}: {said[-1].text}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver or InMemorySaver())


@contextlib.asynccontextmanager
async def working(client, graph, *, agent="lawyer", **options):
    """Run a worker while inside."""
    async with MailboxWorker(graph, agent=agent, client=client, **options) as worker:
        yield worker


async def ask(client, topic, conversation="x"):
    """Send the lawyer a task of a conversation; its answers come to the mailbox `asker`."""
    await client.send(
        "lawyer",
        {"topic": topic},
        sender="ada",
        reply_to="asker",
        correlation_id=topic,
        headers={"conversation": conversation},
    )


def fail_once(error):
    """What a step does that fails the first time."""
    errors = [error]

    async def act(state, config):
        if errors:
            raise errors.pop()

    return act


def wait_once():
    """What a step does that waits for ever the first time."""
    blocked = [asyncio.Event()]

    async def act(state, config):
        if blocked:
            await blocked.pop().wait()

    return act


async def held(client, mail_address="lawyer"):
    """How many messages of the agent are leased, or wait for their delay to end."""
    status = await client.mailbox_status(mail_address, group_name=mail_address)
    return sum(one.count for one in status.group.leased)


def turns_of(client):
    """The turns of the lawyer's threads."""
    return Turns(WorkerAgent(client, "lawyer", "lawyer"), LEASE_S * 1000)
