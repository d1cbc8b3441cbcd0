"""The JSON schemas of the arguments that the tools of a graph take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel
from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema


def tool_schemas(graph: Any) -> dict[str, Mapping[str, Any]]:
    """Return the schemas of a graph's tools by name, as far as they are known.

    Args:
        graph: A compiled graph, whose tools are those of its nodes. Of any other nothing is known.
    """
    found = {tool.name: _schema(tool) for tool in _tools(graph)}
    return {name: schema for name, schema in found.items() if schema is not None}


def _tools(graph: Any) -> Iterator[BaseTool]:
    if not isinstance(graph, Pregel):
        return
    for node in graph.nodes.values():
        by_name = getattr(node.bound, "tools_by_name", None)
        if isinstance(by_name, Mapping):
            yield from (one for one in by_name.values() if isinstance(one, BaseTool))


def _schema(tool: BaseTool) -> Mapping[str, Any] | None:
    schema: Any = tool.tool_call_schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        try:
            return schema.model_json_schema()
        except PydanticInvalidForJsonSchema:
            return None
    return schema if isinstance(schema, dict) else None
