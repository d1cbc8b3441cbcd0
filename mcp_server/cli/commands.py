"""The program ``mq9-mcp`` with its commands."""

from __future__ import annotations

from mcp_server.cli.install import install
from mcp_server.cli.serve import app
from mcp_server.hosts.doctor import doctor
from mq9.cli.call import register

__all__ = ["app"]

app.command()(install)
register(app, "doctor", doctor)
