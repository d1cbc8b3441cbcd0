"""An agent of Microsoft's Agent Framework."""

import asyncio
import sys

from agent_framework import Agent, MCPStdioTool, MCPStreamableHTTPTool
from agent_framework.openai import OpenAIChatCompletionClient


async def main(model_url, transport, *words):
    *target, prompt = words
    if transport == "stdio":
        server = MCPStdioTool("mq9", command=target[0], args=target[1:])
    else:
        server = MCPStreamableHTTPTool("mq9", url=target[0])
    model = OpenAIChatCompletionClient(
        model="scripted",
        base_url=model_url,
        api_key="scripted",
        # Or else the model is not told what went wrong.
        function_invocation_configuration={"include_detailed_errors": True},
    )
    async with server, Agent(model, tools=server) as agent:
        await agent.run(prompt)


asyncio.run(main(*sys.argv[1:]))
