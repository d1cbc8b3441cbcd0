"""An agent of Strands."""

import sys

from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from strands import Agent
from strands.models.openai import OpenAIModel
from strands.tools.mcp import MCPClient


def main(model_url, transport, *words):
    *target, prompt = words
    if transport == "stdio":
        parameters = StdioServerParameters(command=target[0], args=target[1:])
        server = MCPClient(lambda: stdio_client(parameters), startup_timeout=60)
    else:
        server = MCPClient(lambda: streamable_http_client(target[0]), startup_timeout=60)
    connection = {"base_url": model_url, "api_key": "scripted"}
    model = OpenAIModel(client_args=connection, model_id="scripted")
    with server:
        Agent(model=model, tools=server.list_tools_sync(), callback_handler=None)(prompt)


main(*sys.argv[1:])
