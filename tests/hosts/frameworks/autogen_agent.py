"""An agent of AutoGen."""

import asyncio
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams, StreamableHttpServerParams


async def main(model_url, transport, *words):
    *target, prompt = words
    if transport == "stdio":
        server = StdioServerParams(command=target[0], args=target[1:], read_timeout_seconds=60)
    else:
        server = StreamableHttpServerParams(url=target[0])
    model = OpenAIChatCompletionClient(
        model="scripted",
        base_url=model_url,
        api_key="scripted",
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": False,
            "structured_output": False,
            "family": "unknown",
        },
    )
    async with McpWorkbench(server) as workbench:
        agent = AssistantAgent("agent", model, workbench=workbench, max_tool_iterations=50)
        await agent.run(task=prompt)


asyncio.run(main(*sys.argv[1:]))
