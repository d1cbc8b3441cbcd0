"""An agent asks another that is offline, goes on with its work, and reads the answer later.

Scenario 7, a question to an agent that may be offline; and the pattern of request and reply. The
tools say in each message where its answer goes.
"""

import asyncio
import json
import sys

from langchain.agents import create_agent

from langchain_mq9 import Mq9Toolkit
from langchain_mq9.testing import ScriptedModel, call


def fetched(conversation):
    """Return the one message that the agent has just fetched."""
    [message] = json.loads(conversation[-1].content)["messages"]
    return message


def reply(conversation):
    envelope = fetched(conversation)["untrusted_envelope"]
    return call(
        "send_message",
        mail_address=envelope["reply_to"],
        correlation_id=envelope["correlation_id"],
        content="The library is 72 % done.",
    )


async def run(server, agent, task, *script):
    """Start an agent for one task; it is offline again when it has done it."""
    async with Mq9Toolkit(server, agent=agent) as toolkit:
        app = create_agent(ScriptedModel(*script), toolkit.get_tools())
        said = (await app.ainvoke({"messages": [("human", task)]}))["messages"]
    print(f"{agent}: {said[-1].text}")
    return said


async def main(server="memory://ask.offline"):
    register = call("agent_register", name="ben", capabilities="Builds the library")
    await run(server, "ben", "Register.", register, "I am known, and leave.")
    ask = call("send_message", mail_address="ben", content="How far?", correlation_id="how-far")
    await run(server, "ann", "Ask Ben how far he is.", ask, "I have asked, and do other things.")
    fetch, ack = call("fetch_messages"), call("ack_messages", msg_id=0)
    await run(server, "ben", "Answer your mail.", fetch, reply, ack, "I have answered.")
    said = await run(server, "ann", "Read your mail.", call("fetch_messages"), "There it is.")
    answer = fetched(said[:-1])
    print("The answer:", answer["untrusted_content"])
    return answer["untrusted_envelope"] | {"content": answer["untrusted_content"]}


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
