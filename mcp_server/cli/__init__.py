"""The program ``mq9-mcp``: serving, ``install`` and ``doctor``.

It is loaded when it is used, so that ``mq9 --help`` can list it without.
"""

from typing import TYPE_CHECKING

from mq9.lazy import lazy_names

if TYPE_CHECKING:
    from mcp_server.cli.commands import app

__all__ = ["SUMMARY", "app"]

SUMMARY = (
    "A mailbox for an MCP host, such as Claude Desktop, Claude Code, Codex, Cursor or VS Code."
)

if not TYPE_CHECKING:  # which would let every name pass
    __getattr__, __dir__ = lazy_names(__name__, {"commands": ("app",)})
