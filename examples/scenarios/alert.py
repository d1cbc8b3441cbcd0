"""An alert reaches everybody who listens, also those who were away; the sender knows none of them.

Scenario 4, an agent sees that something is wrong and tells all. Each listener is a consumer group
of its own, so that each gets every alert. An alert expires when it is no longer of any use.
"""

import asyncio
import sys

from langchain.agents import create_agent

from langchain_mq9 import Mq9Toolkit
from langchain_mq9.testing import ScriptedModel, call
from mq9 import Mq9Client

ALERTS = "alerts.payment"


async def watch(server):
    """An agent looks at the numbers, and raises two alerts."""
    model = ScriptedModel(
        call("send_message", to=ALERTS, content="Payments are slow", ttl=3600),
        call("send_message", to=ALERTS, content="Payments fail", priority="critical"),
        "Whoever is concerned has been told.",
    )
    async with Mq9Toolkit(server, agent="monitor") as toolkit:
        agent = create_agent(model, toolkit.get_tools())
        await agent.ainvoke({"messages": [("human", "15 % of payments time out. Tell everybody.")]})


async def main(server="memory://scenarios.alert"):
    heard = {"pager": [], "auditor": []}
    told = asyncio.Event()

    async def page(message):
        heard["pager"].append(message.text)
        if len(heard["pager"]) == 2:
            told.set()

    async with Mq9Client(server) as client:
        await client.mailbox_create(name=ALERTS, public=True, renew=True)
        async with await client.consume(ALERTS, page, group_name="pager"):
            await watch(server)
            await told.wait()

        # The auditor begins when all is over, and gets what matters most first.
        for alert in await client.fetch(ALERTS, group_name="auditor"):
            heard["auditor"].append(alert.text)
            await alert.ack()
    for listener, alerts in heard.items():
        print(f"{listener} heard: {', '.join(alerts)}")
    return heard


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
