"""An agent of Pydantic AI."""

import asyncio
import sys

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def main(model_url, transport, *words):
    *target, prompt = words
    reached = StdioTransport(target[0], target[1:]) if transport == "stdio" else target[0]
    provider = OpenAIProvider(base_url=model_url, api_key="scripted")
    model = OpenAIChatModel("scripted", provider=provider)
    await Agent(model, toolsets=[MCPToolset(reached)]).run(prompt)


asyncio.run(main(*sys.argv[1:]))
