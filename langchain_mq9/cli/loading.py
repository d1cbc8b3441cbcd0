"""From ``module:name`` to a graph that runs in threads."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

from langgraph.pregel import Pregel

from mq9 import InvalidRequest

_ASKS_FOR_IT = "checkpointer"  # the argument of a function that is to be given one


def find(target: str, directory: Path) -> Any:
    """Return what ``module:name`` names, as a program in a directory would import it.

    Args:
        target: A module, a colon, and a name in it; names in names are joined by dots.
        directory: Where modules are looked for first.

    Raises:
        InvalidRequest: There is no such module, or no such name in it.
    """
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise InvalidRequest(f"graph: {target!r} is not module:name, such as agents.law:graph")
    sys.path.insert(0, str(directory.resolve()))
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InvalidRequest(
                f"graph: {module_name} needs {error.name}, which is missing"
            ) from error
        raise InvalidRequest(f"graph: there is no module {error.name} in {directory}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise InvalidRequest(f"graph: {module_name} has no {path}")
        found = getattr(found, name)
    return found


@contextlib.asynccontextmanager
async def made(found: Any, checkpoint: Path | None) -> AsyncIterator[Any]:
    """Make a graph of what was found, ready to run while inside.

    Args:
        found: A compiled graph, a ``StateGraph``, or a function that returns either, as a coroutine
            or an asynchronous context manager, too. One with an argument ``checkpointer`` is given
            that.
        checkpoint: The SQLite file to keep the threads in; None where the graph has a checkpointer.

    Raises:
        InvalidRequest: There is no graph, no checkpointer, or two; or what keeps the file is not
            installed.
    """
    async with contextlib.AsyncExitStack() as stack:
        saver = None if checkpoint is None else await stack.enter_async_context(_saver(checkpoint))
        graph, takes_saver = found, False
        if not _is_graph(found) and callable(found):
            takes_saver = _ASKS_FOR_IT in inspect.signature(found).parameters
            if takes_saver and saver is None:
                raise InvalidRequest("checkpoint: the graph is made with one; name a file")
            graph = found(**({_ASKS_FOR_IT: saver} if takes_saver else {}))
            if inspect.isawaitable(graph):
                graph = await graph
            elif isinstance(graph, contextlib.AbstractAsyncContextManager):
                graph = await stack.enter_async_context(graph)
        if not _is_graph(graph):
            raise InvalidRequest(f"graph: {type(graph).__qualname__} is no graph, nor makes one")
        yield graph if takes_saver else _with(saver, graph)


def _is_graph(value: Any) -> bool:
    return hasattr(value, "aget_state") or hasattr(value, "compile")


def _with(saver: Any, graph: Any) -> Any:
    """Return a graph compiled with a checkpointer."""
    if not hasattr(graph, "aget_state"):
        if saver is None:
            raise InvalidRequest("checkpoint: the graph is not compiled yet; name a file")
        return graph.compile(checkpointer=saver)
    if saver is None:
        return graph
    if not isinstance(graph, Pregel) or graph.checkpointer:
        raise InvalidRequest("checkpoint: the graph has a checkpointer of its own; leave it out")
    return graph.copy({_ASKS_FOR_IT: saver})


def _saver(file: Path) -> Any:
    try:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            f"checkpoint: it needs {error.name}, which the extra `worker` of this package "
            "installs; in a clone of it: pip install '.[worker]'"
        ) from error
    return AsyncSqliteSaver.from_conn_string(str(file))
