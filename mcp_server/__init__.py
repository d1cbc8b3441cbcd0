"""mq9 for MCP hosts: a mailbox for Claude Desktop, Claude Code, Cursor or VS Code.

``mq9-mcp`` is the program; ``make_server`` makes the server that it runs. Both need the extra
``mcp``. What is named here is loaded when it is used, so that the program can say what it lacks.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp_server.agents.callers import Callers
    from mcp_server.server import make_server
    from mcp_server.settings import Settings

__all__ = ["Callers", "Settings", "make_server"]

_MODULES = {"Callers": "agents.callers", "Settings": "settings", "make_server": "server"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
