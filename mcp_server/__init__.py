"""mq9 for MCP hosts: a mailbox for Claude Desktop, Claude Code, Cursor or VS Code.

``mq9-mcp`` is the program, and ``make_server`` makes its server. Both need the extra ``mcp``. A
name is imported when it is used, so that the program can report a missing extra.
"""

from mq9.lazy import lazy_names

TYPE_CHECKING = False  # importing it from typing takes longer than a hook may
if TYPE_CHECKING:
    from mcp_server.callers import Callers
    from mcp_server.server import make_server
    from mcp_server.settings import Settings

__all__ = ["Callers", "Settings", "make_server"]

if not TYPE_CHECKING:  # which would let every name pass
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "callers": ("Callers",),
            "server": ("make_server",),
            "settings": ("Settings",),
        },
    )
