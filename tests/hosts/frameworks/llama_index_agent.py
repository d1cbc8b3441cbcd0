"""An agent of LlamaIndex."""

import asyncio
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec


async def main(model_url, _way, *words):
    *target, prompt = words
    client = BasicMCPClient(target[0], args=target[1:], timeout=60)
    model = OpenAILike(
        model="scripted",
        api_base=model_url,
        api_key="scripted",
        is_chat_model=True,
        is_function_calling_model=True,
    )
    tools = await McpToolSpec(client).to_tool_list_async()
    agent = FunctionAgent(tools=tools, llm=model, timeout=600)
    await agent.run(prompt, max_iterations=50)


asyncio.run(main(*sys.argv[1:]))
