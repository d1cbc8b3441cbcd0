"""mq9 for MCP hosts: a mailbox for Claude Desktop, Claude Code, Cursor or VS Code.

``mq9-mcp`` is the program; ``make_server`` makes the server that it runs. Both need the extra
``mcp``.
"""

from mcp_server.callers import Callers
from mcp_server.server import make_server
from mcp_server.settings import Settings

__all__ = ["Callers", "Settings", "make_server"]
