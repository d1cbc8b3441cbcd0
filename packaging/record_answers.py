"""Makes ``answers.json``: asks the server, and writes down what the MCP SDK answers for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed
from typing import Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    JSONRPCRequest,
    JSONRPCResponse,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from mcp_server.callers import Callers, WorkingDirectory
from mcp_server.server import make_server
from mcp_server.settings import Settings
from mcp_server.startup.answers import ADDRESS, AGENT, CURRENT, FILE, OLDER
from mq9 import Mq9Client
from mq9.operations.catalog import ALL
from mq9.operations.listing import NAMES

VERSIONS = {
    **dict.fromkeys(HANDSHAKE_PROTOCOL_VERSIONS, OLDER),
    **dict.fromkeys(MODERN_PROTOCOL_VERSIONS, CURRENT),
}
# Each list with the member of its result that it is.
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


def opening(version: str) -> tuple[str, dict[str, Any]]:
    """Return the first request of a client: its method and parameters."""
    if VERSIONS[version] == CURRENT:
        return "server/discover", envelope(version)
    about = {"name": "recording", "version": "0"}
    return "initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": about}


def envelope(version: str) -> dict[str, Any]:
    """Return the parameters of any other request that has none of its own."""
    if VERSIONS[version] == OLDER:
        return {}
    return {"_meta": {PROTOCOL_VERSION_META_KEY: version, CLIENT_CAPABILITIES_META_KEY: {}}}


def requests(version: str) -> list[tuple[str, dict[str, Any]]]:
    """Return all that is asked in a version of the protocol, in this order."""
    rest = ["ping", *LISTS] if VERSIONS[version] == OLDER else [*LISTS]
    return [opening(version), *((method, envelope(version)) for method in rest)]


async def answered(
    settings: Settings, agent: str | None, mail_address: str | None, version: str
) -> dict[str, dict[str, Any]]:
    """Return what a server answers: the result of each request, by its method.

    Args:
        settings: What it offers.
        agent: Who asks; None for an agent that is named after its host.
        mail_address: The mailbox of that agent.
        version: The version of the protocol.
    """
    callers = Callers(
        lambda _agent: Mq9Client("memory:"),
        settings,
        agent=agent,
        mail_address=mail_address,
        working_directory=WorkingDirectory(None, ()) if agent is None else None,
    )
    server = make_server(callers, settings)
    asked = requests(version)
    results: dict[str, dict[str, Any]] = {}
    asking, reading = anyio.create_memory_object_stream[SessionMessage | Exception]()
    writing, hearing = anyio.create_memory_object_stream[SessionMessage]()
    options = server.create_initialization_options()
    async with anyio.create_task_group() as tasks, asking, hearing:
        tasks.start_soon(server.run, reading, writing, options)
        for method, params in asked:
            request = JSONRPCRequest(jsonrpc="2.0", id=method, method=method, params=params)
            await asking.send(SessionMessage(request))
            answer = (await hearing.receive()).message
            assert isinstance(answer, JSONRPCResponse), answer  # noqa: S101  # this is no service
            results[method] = answer.result
        tasks.cancel_scope.cancel()
    return results


async def recorded() -> dict[str, Any]:
    """Return what the file has to hold."""
    everything = Settings(prefix="")
    results = {
        era: await answered(everything, AGENT, ADDRESS, version)
        for version, era in VERSIONS.items()  # the last of an era stands for all
    }
    without = {
        name: await answered(
            Settings(prefix="", tools=[one for one in NAMES if one != name]),
            AGENT,
            ADDRESS,
            HANDSHAKE_PROTOCOL_VERSIONS[-1],
        )
        for name in NAMES
    }
    lists = {
        member: [
            {
                "needs": [name for name in NAMES if _lacks(without[name][method][member], item)],
                "item": item,
            }
            for item in results[OLDER][method][member]
        ]
        for method, member in LISTS.items()
    }
    for tool in lists["tools"]:  # what they say depends on which others there are
        tool["item"]["description"] = ALL[tool["item"]["name"]].description
    for era in results.values():
        for method, member in LISTS.items():
            era[method] = era[method] | {member: []}
    return {"sdk": installed("mcp"), "versions": VERSIONS, "results": results, "lists": lists}


def _lacks(items: Sequence[Mapping[str, Any]], item: Mapping[str, Any]) -> bool:
    return item["name"] not in {one["name"] for one in items}


def text(content: Mapping[str, Any]) -> str:
    """Return the text of the file with some content."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(asyncio.run(recorded())), "utf-8")
