"""``mq9 worker``: a graph that is run by the mail of an agent."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from langgraph.pregel import Pregel

from langchain_mq9.worker import MailboxWorker
from mq9 import InvalidRequest, logs, stop_on_signals
from mq9.cli.agent_options import AGENT, HANDLING, described, option, parameters
from mq9.cli.program import new_app, taking
from mq9.protocol import checks, requests

_ASKS_FOR_IT = "checkpointer"  # the argument of a function that needs one


def find(target: str, directory: Path) -> Any:
    """Import ``module:name``, looking in a directory first; names in names are joined by dots."""
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
        raise InvalidRequest(f"graph: module {error.name} was not found in {directory}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise InvalidRequest(f"graph: {module_name} has no {path}")
        found = getattr(found, name)
    return found


@contextlib.asynccontextmanager
async def made(found: Any, checkpoint: Path | None) -> AsyncIterator[Any]:
    """Make a graph, ready inside, of a graph, a builder or a function that returns one."""
    async with contextlib.AsyncExitStack() as stack:
        saver = None if checkpoint is None else await stack.enter_async_context(_saver(checkpoint))
        graph, takes_saver = found, False
        if not _is_graph(found) and callable(found):
            takes_saver = _takes_saver(found)
            if takes_saver and saver is None:
                raise InvalidRequest("checkpoint: the graph is made with one; name a file")
            graph = found(**({_ASKS_FOR_IT: saver} if takes_saver else {}))
            if inspect.isawaitable(graph):
                graph = await graph
            elif isinstance(graph, contextlib.AbstractAsyncContextManager):
                graph = await stack.enter_async_context(graph)
        if not _is_graph(graph):
            raise InvalidRequest(
                f"graph: {type(graph).__qualname__} is not a graph and does not build one"
            )
        yield graph if takes_saver else _with(saver, graph)


def _takes_saver(found: Callable[..., Any]) -> bool:
    """Return whether a function makes a graph of a checkpointer, its only required argument."""
    name = getattr(found, "__qualname__", type(found).__qualname__)
    try:
        signature = inspect.signature(found)
        takes_saver = _ASKS_FOR_IT in signature.parameters
        signature.bind(**({_ASKS_FOR_IT: None} if takes_saver else {}))
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"graph: {name} is not a graph, and calling it to build one failed: {error}"
        ) from None
    return takes_saver


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


_OPTIONS = {
    "graph": Annotated[str, typer.Argument(metavar="GRAPH", help="module:name of the graph.")],
    **AGENT,
    "checkpoint": option(Path | None, "SQLite file of the graph's threads.", "FILE"),
    "concurrency": option(int, "Messages at the same time."),
    "handler_timeout": option(float, "Time for one run."),
    "stop_timeout": option(float, "Time for runs to finish."),
    **HANDLING,
    "promise_within": option(
        float | None,
        "Time within which answers are promised.  [default: as asked]",
        "SECONDS",
    ),
    "human": option(
        list[str] | None,
        "Agent or mailbox to ask when the graph interrupts. Repeatable.",
        "ADDRESS",
    ),
    "escalate_to": option(str | None, "Person to ask after --escalate-after.", "ADDRESS"),
    "escalate_after": option(
        int | None, "Time without an answer, after which --escalate-to is asked.", "SECONDS"
    ),
    "expires": option(int | None, "Lifetime of a question.  [default: never]", "SECONDS"),
    "progress": Annotated[
        bool, typer.Option("--progress", help="Send the sender a message for each node that ends.")
    ],
    "app_dir": option(Path, "Directory that is searched first for the module.", file_okay=False),
}


def _work(
    *,
    graph: str,
    app_dir: Path,
    checkpoint: Path | None,
    url: str | None,
    capabilities: str | None,
    card: Path | None,
    lease: float,
    progress: bool,
    **options: Any,
) -> None:
    """Run a LangGraph graph for each message to an agent.

    GRAPH is module:name of a compiled graph, a StateGraph, or a function that returns one. The
    current directory is searched first. The graph's checkpointer, or the file of --checkpoint,
    stores its threads.

    After SIGTERM, SIGHUP or Ctrl-C, runs have --stop-timeout to finish, and the rest is given back.
    A further SIGTERM or Ctrl-C ends it at once. MQ9_LOG_LEVEL and MQ9_LOG_FORMAT set the log.
    """
    logs.configure_by_variables("info")
    options |= {
        "server": url or None,
        "capabilities": described(capabilities, card),
        "lease_ms": round(checks.number(1, requests.MAX_LEASE_MS // 1000)("lease", lease) * 1000),
        "progress": "mailbox" if progress else None,
    }
    asyncio.run(_run(find(graph, app_dir), checkpoint, options))


_defaults = {
    **{name: one.default for name, one in inspect.signature(MailboxWorker).parameters.items()},
    "progress": False,
    "app_dir": Path(),
}
_defaults["lease"] = _defaults["lease_ms"] / 1000
app = new_app()
app.command("worker")(taking(parameters(_OPTIONS, _defaults), _work, _work.__doc__))


async def _run(found: Any, checkpoint: Path | None, options: dict[str, Any]) -> None:
    async with made(found, checkpoint) as graph:
        worker = MailboxWorker(graph, **options)
        async with worker:
            stop_on_signals(worker.request_stop)
            typer.echo(f"{worker.agent} takes mail at {worker.mail_address}")
            await worker.wait()
