"""Graphs that ask, a person's side of it, and a worker for them."""

import orjson
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from mq9.questions import MailedQuestion
from tests.worker import graphs as worker_graphs
from tests.worker.graphs import State


class Asking:
    """Three steps, of which the second asks `values`, one after the other; `ran` is what ran.

    After each answer the step awaits `act` with the number of answers so far. Each step awaits
    `note` with its name and its configuration, the second one when it has all answers.
    """

    def __init__(self, *values, act=None, note=None, saver=None):
        self.ran = []
        builder = StateGraph(State)

        async def done(step, config):
            self.ran.append(step)
            if note is not None:
                await note(step, config)

        async def read(state, config):
            await done("read", config)
            return {"trail": ["read"]}

        async def ask(state, config):
            self.ran.append("ask")
            answers = []
            for one in values:
                answers.append(interrupt(one))
                if act is not None:
                    await act(len(answers))
            await done("asked", config)
            return {"trail": [orjson.dumps(one).decode() for one in answers]}

        async def write(state, config):
            await done("write", config)
            return {"trail": ["write"]}

        before = START
        for step in (read, ask, write):
            builder.add_node(step.__name__, step)
            builder.add_edge(before, step.__name__)
            before = step.__name__
        builder.add_edge(before, END)
        self.graph = builder.compile(checkpointer=saver or InMemorySaver())


def working(client, graph, **options):
    """Run a worker of agent `lawyer`, whose human is `boss`, while inside."""
    return worker_graphs.working(client, graph, **{"human": "boss", **options})


async def begin(client, body=None, **options):
    """Send the lawyer something to do; its answers come to the mailbox `asker`."""
    options = {"reply_to": "asker", "correlation_id": "task", "sender": "ada", **options}
    await client.send("lawyer", body or {"topic": "tea"}, **options)
    await settle(client)


async def settle(client, seconds=0):
    """Let so much time pass, after the worker has done what there is to do now, and then again.

    Graphs work on threads as well, of which the clock does not know.
    """
    await _done(client)
    await client.clock.advance(seconds)
    await _done(client)


async def _done(client):
    while await _is_at_work(client):
        await client.clock.advance(0)


async def _is_at_work(client):
    """Tell whether there is mail for the worker, or the worker has some."""
    for address in ("lawyer", "lawyer.answers"):
        status = await client.mailbox_status(address, group_name="lawyer")
        held = any(one.consumer is not None for one in status.group.leased)
        if held or status.group.pending.total:
            return True
    return False


async def asked(client, mailbox="boss"):
    """The questions in a mailbox: each message with what it asks."""
    found = await client.query(mailbox, tags=["question"])
    return [(message, MailedQuestion.from_payload(message.payload)) for message in found]


async def answer(client, question, body, **options):
    """Answer a question, and let the worker deal with that."""
    await client.reply(question, body, **{"sender": "boss", **options})
    await settle(client)


async def outcome(client):
    """What the asker was answered."""
    return [one.json() for one in await client.query("asker")]


async def refusals(client):
    """Why answers, or messages, were moved to the dead-letter mailbox."""
    return [one.moved.reason for one in await client.query("lawyer.dead")]
