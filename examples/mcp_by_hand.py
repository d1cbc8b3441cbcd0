"""Use the tools of an MCP server by hand, as a model does that has nothing but their definitions.

`open` holds a session until it is interrupted. It starts a server on standard input, or connects to
one over HTTP:

    python examples/mcp_by_hand.py open ada --stdio mq9-mcp --agent ada
    python examples/mcp_by_hand.py open ada --http http://127.0.0.1:8765/mcp --token SECRET

`ada` is a new folder. It gets the socket on which the session listens, and `calls.jsonl`, which
records each call with its result and its seconds. Other commands use the session:

    python examples/mcp_by_hand.py tools ada
    python examples/mcp_by_hand.py call ada mq9_whoami '{}'
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

_LONGEST_LINE = 16 * 1024 * 1024
_HTTP_TIMEOUT_S = 660  # longer than any tool waits


def tools_in(listed):
    """Return the definitions of the tools."""
    return [
        {"name": one.name, "description": one.description, "parameters": one.input_schema}
        for one in listed.tools
    ]


async def answer(client, asked):
    """Answer one line of another command."""
    if asked["command"] == "tools":
        return {"instructions": client.instructions, "tools": tools_in(await client.list_tools())}
    called = await client.call_tool(asked["name"], asked["arguments"])
    text = "\n".join(part.text for part in called.content if part.type == "text")
    return {"error" if called.is_error else "result": text}


async def hold(client, folder):
    """Answer other commands, one line each, until the program is interrupted."""

    async def serve(reader, writer):
        asked = json.loads(await reader.readline())
        began = time.monotonic()
        try:
            said = await answer(client, asked)
        except Exception as error:  # noqa: BLE001  # a model is told of it, too
            said = {"error": f"{type(error).__name__}: {error}"}
        seconds = round(time.monotonic() - began, 3)
        with (folder / "calls.jsonl").open("a") as record:
            record.write(json.dumps({**asked, **said, "seconds": seconds}) + "\n")
        writer.write(json.dumps(said).encode() + b"\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, folder / "socket", limit=_LONGEST_LINE)
    print("open", flush=True)
    async with server:
        await server.serve_forever()


async def open_session(folder, options):
    folder.mkdir(parents=True)
    if options.stdio:
        command, *arguments = options.stdio
        server = StdioServerParameters(command=command, args=arguments, env=dict(os.environ))
        async with Client(server) as client:
            await hold(client, folder)
        return
    headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=_HTTP_TIMEOUT_S) as http,
        Client(streamable_http_client(options.http, http_client=http)) as client,
    ):
        await hold(client, folder)


def ask(folder, asked):
    """Ask the session in a folder, and return what it answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / "socket"))
        connection.sendall(json.dumps(asked).encode() + b"\n")
        with connection.makefile("r") as lines:
            return json.loads(lines.readline())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    opening = commands.add_parser("open", help="hold a session")
    opening.add_argument("folder", type=Path)
    how = opening.add_mutually_exclusive_group(required=True)
    how.add_argument("--http", metavar="URL", help="a server that runs")
    how.add_argument("--stdio", nargs=argparse.REMAINDER, metavar="COMMAND", help="one to start")
    opening.add_argument("--token", help="the bearer token for --http")
    listing = commands.add_parser("tools", help="print the definitions of the tools")
    listing.add_argument("folder", type=Path)
    calling = commands.add_parser("call", help="call a tool")
    calling.add_argument("folder", type=Path)
    calling.add_argument("name")
    calling.add_argument("arguments", type=json.loads, nargs="?", default={}, metavar="JSON")
    options = parser.parse_args()
    if options.command == "open":
        try:
            asyncio.run(open_session(options.folder, options))
        except KeyboardInterrupt:
            return
    elif options.command == "tools":
        print(json.dumps(ask(options.folder, {"command": "tools"}), indent=1))
    else:
        asked = {"command": "call", "name": options.name, "arguments": options.arguments}
        said = ask(options.folder, asked)
        print(said.get("result", said.get("error")))
        sys.exit("error" in said)


if __name__ == "__main__":
    main()
