"""Commands and routes of the packages above, by name: they import this one, which loads them late.

Each has the name of the extra that installs what it needs.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from mq9.cli import needing

# What each command does. They are listed without loading their packages, which need much.
SUMMARIES = {
    "desk": "Open the desk in a browser: your questions and your agents.",
    "mcp": "Give an MCP host a mailbox, such as Claude Code or Cursor.",
    "worker": "Run a LangGraph graph for each message to an agent.",
}
COMMANDS = {
    "desk": "mq9.desk.cli:app",
    "mcp": "mcp_server.cli:app",
    "worker": "langchain_mq9.cli:app",
}  # typer.Typer
ROUTES = {  # ``mq9.cli.serve.MakeRoutes`` and ``MakeDesk``
    "desk": "mq9.desk.serving:make_desk_routes",
    "mcp": "mcp_server.http.serving:make_routes",
}


def load(places: dict[str, str], name: str) -> Any:
    """Load what a package above adds; raises MissingExtra where it needs what is not installed."""
    with needing(name, f"{name}: it"):
        return resolve_name(places[name])
