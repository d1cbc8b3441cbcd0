"""An agent of the OpenAI Agents SDK."""

import asyncio
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from openai import AsyncOpenAI


async def main(model_url, transport, *words):
    *target, prompt = words
    set_tracing_disabled(True)
    if transport == "stdio":
        parameters = {"command": target[0], "args": target[1:]}
        server = MCPServerStdio(parameters, client_session_timeout_seconds=60)
    else:
        server = MCPServerStreamableHttp({"url": target[0]}, client_session_timeout_seconds=60)
    client = AsyncOpenAI(base_url=model_url, api_key="scripted")
    model = OpenAIChatCompletionsModel("scripted", client)
    async with server:
        agent = Agent("agent", model=model, mcp_servers=[server])
        await Runner.run(agent, prompt, max_turns=50)


asyncio.run(main(*sys.argv[1:]))
