"""An agent wants to pay. A person is asked by mail, changes the amount, and the agent goes on.

Scenario 6, a person approves; and the pattern of human approval. The worker ends while nobody has
answered: the question waits in the person's mailbox, the run in its checkpoint.
"""

import asyncio
import sys
from functools import partial

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mq9 import MailboxWorker
from langchain_mq9.testing import ScriptedModel, call
from mq9 import Mq9Client

paid = []


@tool
def pay(amount: int) -> str:
    """Pay an amount."""
    paid.append(amount)
    return "done"


accountant = create_agent(
    ScriptedModel(call("pay", amount=900), "The invoice is paid."),
    [pay],
    middleware=[HumanInTheLoopMiddleware({"pay": True})],
    checkpointer=InMemorySaver(),  # outside of examples one on disk
)


async def main(server="memory://scenarios.approval"):
    work = partial(MailboxWorker, accountant, agent="accountant", human="boss", server=server)
    async with Mq9Client(server) as client:
        customer = await client.mailbox_create(prefix="customer", ttl=86_400)
        async with work():
            await client.send("accountant", "Pay invoice 7.", reply_to=customer)
            [question] = await client.fetch("boss", group_name="boss", max_wait_ms=60_000)
        print("The boss is asked:", question.json()["actions"])

        edited = {"name": "pay", "args": {"amount": 90}}
        await question.reply({"type": "edit", "edited_action": edited})
        await question.ack()
        async with work():
            [answer] = await client.fetch(customer, group_name="customer", max_wait_ms=60_000)
        print("The customer reads:", answer.text, "Paid:", paid)
        return {"paid": paid, "answer": answer.text}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
