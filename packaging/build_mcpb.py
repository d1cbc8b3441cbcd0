"""Build the bundle that hosts such as Claude Desktop install with a click: ``make mcpb``.

It holds the sources and a list of what they need; the host brings uv, which gets that and a Python
on the first start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from mcp import Client

from mcp_server import Callers, Settings, make_server
from mq9 import Mq9Client

ROOT = Path(__file__).parents[1]
PACKAGES = ("mcp_server", "mq9")
NOT_NEEDED = ("langchain-core", "langgraph")  # by the package that is not in it
START = """\
from mcp_server.program import main

if __name__ == "__main__":
    main()
"""


async def tools() -> list[dict[str, str]]:
    """Return the tools as the server offers them, each with the first line of what it says."""
    settings = Settings()
    callers = Callers(lambda _agent: Mq9Client("memory://bundle"), settings, agent="claude-desktop")
    async with Client(make_server(callers, settings)) as client:
        return [
            {"name": one.name, "description": (one.description or "").partition("\n")[0]}
            for one in (await client.list_tools()).tools
        ]


def manifest(project: dict[str, Any]) -> dict[str, Any]:
    """Return what the bundle tells the host."""
    return {
        "manifest_version": "0.4",
        "name": "mq9-mcp",
        "display_name": "mq9",
        "version": project["version"],
        "description": "Mailboxes for AI agents: assistants on one machine or many write to "
        "each other.",
        "author": {"name": project["name"]},
        "license": project["license"],
        "keywords": project["keywords"],
        "server": {
            "type": "uv",
            "entry_point": "server.py",
            "mcp_config": {
                "command": "uv",
                "args": [
                    *("run", "--directory", "${__dirname}", "server.py"),
                    *("--agent", "${user_config.agent}"),
                ],
                "env": {"MQ9_SERVER": "${user_config.server}"},
            },
        },
        "tools": asyncio.run(tools()),
        "prompts_generated": True,
        "user_config": {
            "agent": {
                "type": "string",
                "title": "Name",
                "description": "Who this host is among the agents. Its mailbox is named after it.",
                "default": "claude-desktop",
                "required": True,
            },
            "server": {
                "type": "string",
                "title": "Broker",
                "description": "URL of the broker, such as nats://host:4222 or sqlite:///path; "
                "empty for the file that all programs of this user share. On Windows name one that "
                "is not below AppData, of which this host may see a copy of its own.",
                "default": "",
                "sensitive": True,
                "required": False,
            },
        },
        "compatibility": {
            "platforms": ["darwin", "linux", "win32"],
            "runtimes": {"python": project["requires-python"]},
        },
    }


def requirements(project: dict[str, Any]) -> list[str]:
    """Return what the packages in the bundle need."""
    needed = [*project["dependencies"], *project["optional-dependencies"]["mcp"]]
    return sorted(one for one in needed if not one.startswith(NOT_NEEDED))


def files(project: dict[str, Any]) -> dict[str, bytes]:
    """Return what the bundle holds, by name."""
    lines = [
        "[project]",
        'name = "mq9-mcp-bundle"',
        f"version = {json.dumps(project['version'])}",
        f"requires-python = {json.dumps(project['requires-python'])}",
        f"dependencies = {json.dumps(requirements(project), indent=2)}",
        "",
        "[tool.uv]",
        "package = false",
        "",
    ]
    found = {
        "manifest.json": f"{json.dumps(manifest(project), indent=2)}\n".encode(),
        "pyproject.toml": "\n".join(lines).encode(),
        "server.py": START.encode(),
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
    }
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    return found


def build(folder: Path) -> Path:
    """Write the bundle; the same one each time, of the same sources.

    Args:
        folder: Where to. It is made if it is missing.

    Returns:
        The bundle.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / f"mq9-mcp-{project['version']}.mcpb"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files(project).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return bundle


def main() -> None:
    """Build it where the command line says, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist")
    print(build(parser.parse_args().folder))


if __name__ == "__main__":
    main()
