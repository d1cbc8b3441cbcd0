"""An agent of LangChain, with its adapters for MCP."""

import asyncio
import sys

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI


async def main(model_url, transport, *words):
    *target, prompt = words
    if transport == "stdio":
        connection = {"transport": "stdio", "command": target[0], "args": target[1:]}
    else:
        connection = {"transport": "http", "url": target[0]}
    model = ChatOpenAI(model="scripted", base_url=model_url, api_key="scripted")
    async with MultiServerMCPClient({"mq9": connection}).session("mq9") as session:
        agent = create_agent(model, await load_mcp_tools(session))
        await agent.ainvoke({"messages": [("human", prompt)]}, {"recursion_limit": 100})


asyncio.run(main(*sys.argv[1:]))
