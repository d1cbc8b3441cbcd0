"""Commands and routes of the higher packages, by name. They are loaded when they are used.

Each has the name of the extra that installs its dependencies.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from mq9.cli import needing

# The help of each command. It is shown without loading its package, which takes time.
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
    """Load a command or routes; raises MissingExtra if a dependency is not installed."""
    with needing(name, f"{name}: it"):
        return resolve_name(places[name])
