"""A LangGraph agent on the older MCP SDK; prints what each tool told it, as JSON.

It runs in an environment of its own, which has nothing of this repository in it:
`older_agent.py stdio COMMAND ...`, `older_agent.py "stdio each" COMMAND ...`, which starts a
process for each call, or `older_agent.py http URL`.
"""

import asyncio
import json
import sys

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from steps import STEPS


class Model(BaseChatModel):
    """Goes through the steps, knowing what a model would: the texts of the tools."""

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **_options):
        missing = {name for name, _ in STEPS} - {tool.name for tool in tools}
        assert not missing, missing
        return self

    def _generate(self, messages, stop=None, run_manager=None, **_options):
        told = [message for message in messages if isinstance(message, ToolMessage)]
        if len(told) == len(STEPS):
            answer = AIMessage("That is all.")
        else:
            said = {one.name: json.loads(one.text) for one in told if one.status == "success"}
            name, arguments = STEPS[len(told)]
            call = {"name": name, "args": arguments(said), "id": f"call-{len(told)}"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


async def told(tools):
    """Let the agent run; what each tool told it."""
    agent = create_agent(Model(), tools)
    state = await agent.ainvoke({"messages": [HumanMessage("Go on.")]}, {"recursion_limit": 100})
    return [
        {
            "tool": message.name,
            "status": message.status,
            "text": message.text,
            "data": (message.artifact or {}).get("structured_content"),
        }
        for message in state["messages"]
        if isinstance(message, ToolMessage)
    ]


async def main(transport, *target):
    """Reach the server by one of the two transports of the adapters, or start it for each call."""
    if transport.startswith("stdio"):
        connection = {"transport": "stdio", "command": target[0], "args": list(target[1:])}
        if transport == "stdio":
            async with MultiServerMCPClient({"mq9": connection}).session("mq9") as session:
                return await told(await load_mcp_tools(session))
    else:
        [url] = target
        connection = {"transport": "http", "url": url}
    client = MultiServerMCPClient({"mq9": connection})
    return await told(await client.get_tools())  # with a session of its own for each call


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(*sys.argv[1:]))))
