"""``mq9 worker``: a graph that is run by the mail of an agent."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from langchain_mq9.cli.loading import find, made
from langchain_mq9.worker import MailboxWorker
from mq9 import InvalidRequest
from mq9.cli import logs
from mq9.cli.program import new_app
from mq9.cli.signals import stop_on_signals
from mq9.client.consumer.options import (
    DEFAULT_MAX_DEATHS,
    DEFAULT_MAX_DELIVERIES,
    DEFAULT_MAX_RETRY_DELAY_S,
    DEFAULT_RETRY_DELAY_S,
    RENEWED_LEASE_MS,
)
from mq9.protocol import checks, requests

app = new_app()


@app.command("worker")
def worker(  # noqa: PLR0917  # typer passes every option by name
    graph: Annotated[str, typer.Argument(metavar="GRAPH", help="module:name of the graph.")],
    agent: Annotated[str, typer.Option(help="Who it works as.")],
    url: Annotated[
        str | None,
        typer.Option(
            envvar="MQ9_SERVER", metavar="URL", help="Broker.  [default: one file per user]"
        ),
    ] = None,
    mail_address: Annotated[
        str | None, typer.Option(help="Its mailbox.  [default: made of its name]")
    ] = None,
    capabilities: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What it can do, by which others find it.")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same as an AgentCard, in a file of JSON."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="SQLite file that keeps the threads of the graph."),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Messages at the same time.")] = 8,
    handler_timeout: Annotated[float, typer.Option(help="Seconds for one run.")] = 600.0,
    stop_timeout: Annotated[
        float, typer.Option(help="Seconds that runs are given to finish.")
    ] = 30.0,
    dead_letter: Annotated[
        str | None,
        typer.Option(help="Mailbox for what cannot be handled.  [default: MAIL_ADDRESS.dead]"),
    ] = None,
    max_deliveries: Annotated[
        int, typer.Option(help="Deliveries before a failing message is a dead letter.")
    ] = DEFAULT_MAX_DELIVERIES,
    max_deaths: Annotated[
        int, typer.Option(help="Deaths of workers before that, alone with it.")
    ] = DEFAULT_MAX_DEATHS,
    retry_delay: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time until the second delivery.")
    ] = DEFAULT_RETRY_DELAY_S,
    max_retry_delay: Annotated[
        float, typer.Option(metavar="SECONDS", help="Longest time between deliveries.")
    ] = DEFAULT_MAX_RETRY_DELAY_S,
    lease: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Time until others take over from a dead worker."),
    ] = RENEWED_LEASE_MS / 1000,
    human: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Agent or mailbox to ask when the graph interrupts. Repeatable.",
        ),
    ] = None,
    escalate_to: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Who is asked, too, after --escalate-after."),
    ] = None,
    escalate_after: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="When, if there was no answer.")
    ] = None,
    expires: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", help="When a question is given up.  [default: never]"),
    ] = None,
    progress: Annotated[
        bool, typer.Option("--progress", help="Tell whoever asks of each node that has ended.")
    ] = False,
    app_dir: Annotated[
        Path, typer.Option(help="Where the module is looked for first.", file_okay=False)
    ] = Path(),
) -> None:
    """Run a LangGraph graph for each message that comes to an agent.

    GRAPH is module:name, looked for in the current directory first: a compiled graph, a StateGraph,
    or a function that makes one. Its threads are kept by its own checkpointer, or in the file that
    --checkpoint names.

    SIGTERM, SIGHUP or Ctrl-C lets what was begun be finished within --stop-timeout, and gives the
    rest back; then SIGTERM or Ctrl-C ends it at once. MQ9_LOG_LEVEL and MQ9_LOG_FORMAT say what it
    logs.
    """
    logs.configure(
        os.environ.get("MQ9_LOG_LEVEL") or "info", os.environ.get("MQ9_LOG_FORMAT") or "text"
    )
    options: dict[str, Any] = {
        "agent": agent,
        "server": url or None,
        "mail_address": mail_address,
        "capabilities": _capabilities(capabilities, card),
        "concurrency": concurrency,
        "handler_timeout": handler_timeout,
        "stop_timeout": stop_timeout,
        "dead_letter": dead_letter,
        "max_deliveries": max_deliveries,
        "max_deaths": max_deaths,
        "retry_delay": retry_delay,
        "max_retry_delay": max_retry_delay,
        "lease_ms": round(checks.number(1, requests.MAX_LEASE_MS // 1000)("lease", lease) * 1000),
        "human": human,
        "escalate_to": escalate_to,
        "escalate_after": escalate_after,
        "expires": expires,
        "progress": "mailbox" if progress else None,
    }
    asyncio.run(_run(find(graph, app_dir), checkpoint, options))


async def _run(found: Any, checkpoint: Path | None, options: dict[str, Any]) -> None:
    async with made(found, checkpoint) as graph:
        worker = MailboxWorker(graph, **options)
        async with worker:
            stop_on_signals(worker.request_stop)
            typer.echo(f"{worker.agent} takes mail at {worker.mail_address}")
            await worker.wait()


def _capabilities(text: str | None, card: Path | None) -> Any:
    if card is None:
        return text
    if text is not None:
        raise InvalidRequest("card: --capabilities is given as well; give either")
    try:
        read = orjson.loads(card.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"card: {card} is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise InvalidRequest(f"card: {card} holds no JSON object")
    return read
