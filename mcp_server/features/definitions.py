"""The definitions of the tools, as hosts are told of them; made without the MCP SDK."""

from __future__ import annotations

from typing import Any

from mcp_server.settings import Settings
from mq9.operations.operation import arguments_schema, result_schema


def definitions(settings: Settings) -> list[dict[str, Any]]:
    """Return what ``tools/list`` says of each tool that is offered, as JSON."""
    names = settings.names
    return [
        {
            "name": name,
            "title": operation.title,
            "description": names.text(operation.description),
            "inputSchema": arguments_schema(operation.arguments),
            "outputSchema": result_schema(operation.result),
            "annotations": {
                "readOnlyHint": operation.read_only,
                "destructiveHint": operation.destructive,
                "idempotentHint": operation.idempotent,
                "openWorldHint": operation.open_world,
            },
        }
        for name, operation in settings.offered.items()
    ]
