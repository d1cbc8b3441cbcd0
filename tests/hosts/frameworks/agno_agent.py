"""An agent of Agno."""

import asyncio
import sys

from agno.agent import Agent
from agno.models.openai.like import OpenAILike
from agno.tools.mcp import MCPTools
from mcp import StdioServerParameters


async def main(model_url, transport, *words):
    *target, prompt = words
    if transport == "stdio":
        parameters = StdioServerParameters(command=target[0], args=target[1:])
        server = MCPTools(server_params=parameters, transport="stdio", timeout_seconds=60)
    else:
        server = MCPTools(url=target[0], transport="streamable-http", timeout_seconds=60)
    model = OpenAILike(id="scripted", base_url=model_url, api_key="scripted")
    async with server:
        await Agent(model=model, tools=[server], telemetry=False).arun(prompt)


asyncio.run(main(*sys.argv[1:]))
