"""The program ``mq9-mcp``: serving, ``install`` and ``doctor``; loaded when it is used."""

from mcp_server.cli.commands import app

__all__ = ["app"]
