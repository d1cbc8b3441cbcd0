"""``mq9 exec``: its options, and the program that runs it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mq9 import logs
from mq9.cli.agent_options import AGENT, HANDLING, REQUIRED, described, option, parameters
from mq9.cli.exec.presets import PRESETS
from mq9.cli.exec.sessions import is_session_id
from mq9.cli.exec.template import Template
from mq9.cli.exec.worker import CommandWorker, ExecOptions
from mq9.cli.program import DEFAULT_TIMEOUT_S, new_app, taking
from mq9.client.client import Mq9Client
from mq9.client.consumer import HandlingOptions, checked_as
from mq9.errors import InvalidRequest, Unreachable
from mq9.protocol import checks, requests
from mq9.signals import stop_on_signals
from mq9.transport.open import default_url, shown_url
from mq9.transport.servers import SCHEMES

_ATTEMPTS = 30  # to reach a broker that went away, with the output of a command in hand
_OPTIONS = {
    "words": Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="The program and its arguments.")
    ],
    **AGENT,
    "senders": Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="Senders that may run it: everyone, known, or a verified name. Repeatable.  "
            "[default: everyone on a file, known on a server]",
        ),
    ],
    "host": option(
        str | None, f"Run a host: {', '.join(PRESETS)}. COMMAND is added to it.", "NAME"
    ),
    "input": option(
        str | None,
        "Where the command gets the body: stdin, or the file {file}.  "
        "[default: file if COMMAND has {file}]",
        "KIND",
    ),
    "concurrency": option(int, "Commands at the same time."),
    "timeout": option(float, "Time for one command.", "SECONDS"),
    "retries": option(int, "Further tries of a message whose command fails.", "NUMBER"),
    "stop_timeout": option(float, "Time that commands have to end.", "SECONDS"),
    **{name: one for name, one in HANDLING.items() if name != "max_deliveries"},
    "max_output": option(int, "Most bytes of an answer.", "NUMBER"),
    "max_messages": option(
        int | None, "Commands after which it stops.  [default: never]", "NUMBER"
    ),
    "once": Annotated[bool, typer.Option("--once", help="Stop after one command.")],
    "session": option(str | None, "Session in which all messages continue.", "ID"),
    "state": option(
        Path | None, "Directory of the sessions.  [default: one per user]", "DIRECTORY"
    ),
}
_HANDLED = checked_as(HandlingOptions, {})
_DEFAULTS = {
    "agent": REQUIRED,
    "concurrency": 1,
    "timeout": 3_600.0,
    "retries": _HANDLED["max_deliveries"] - 1,
    "stop_timeout": _HANDLED["stop_timeout"],
    "max_deaths": _HANDLED["max_deaths"],
    "retry_delay": _HANDLED["retry_delay"],
    "max_retry_delay": _HANDLED["max_retry_delay"],
    "lease": 15.0,
    "max_output": 256 * 1024,
    "once": False,
}


def _exec(
    *,
    words: list[str] | None,
    url: str | None,
    senders: list[str] | None,
    host: str | None,
    input: str | None,  # noqa: A002  # the name of the option
    capabilities: str | None,
    card: Path | None,
    retries: int,
    max_messages: int | None,
    once: bool,
    session: str | None,
    state: Path | None,
    max_deaths: int,
    retry_delay: float,
    max_retry_delay: float,
    **options: Any,
) -> None:
    """Run a command for each message to an agent.

    The command gets the body on standard input, and the rest in variables such as MQ9_SENDER and
    MQ9_MSG_ID. Its standard output is the answer. Exit code 0 acknowledges the message, 65 makes it
    a dead letter, and any other code retries it later.

    Arguments between [ and ] that contain {session} are left out in the first run of a
    conversation. After SIGTERM, SIGHUP or Ctrl-C, commands have --stop-timeout to end.
    """
    logs.configure_by_variables("info")
    if sys.platform == "win32":
        raise InvalidRequest("exec: Windows has no process groups to end commands by")
    whole = checks.whole(1, 1_000_000)
    server = url or default_url()
    template, preset = _template(words or [], host, input)
    if once:
        max_messages = 1
    if session is not None and not (is_session_id(session) and template.has_sessions):
        raise InvalidRequest(
            f"session: {checks.shown(session)} is not a session id, or COMMAND has no place for "
            "one: write [ {session} ]"
        )
    worker = ExecOptions(
        **_checked(options),
        server=server,
        is_private=server.partition("://")[0].lower() not in SCHEMES,
        template=template,
        preset=preset,
        senders=senders or [],
        capabilities=described(capabilities, card),
        state=_state() if state is None else state,
        session=session,
        max_messages=checks.optional(whole)("max_messages", max_messages),
        handling={
            "max_deliveries": checks.whole(0, 1_000_000)("retries", retries) + 1,
            "max_deaths": max_deaths,
            "retry_delay": retry_delay,
            "max_retry_delay": max_retry_delay,
        },
    )
    raise typer.Exit(asyncio.run(_run(worker)))


def _template(words: list[str], host: str | None, kind: str | None) -> tuple[Template, Any]:
    """Return the command, and what is known of it if it is a host."""
    if kind not in {None, "stdin", "file"}:
        raise InvalidRequest(f"input: {checks.shown(kind)} is neither stdin nor file")
    preset = None
    if host is not None:
        if host not in PRESETS:
            known = ", ".join(PRESETS)
            raise InvalidRequest(f"host: {checks.shown(host)} is not one of {known}")
        preset = PRESETS[host]
        words = preset.words(words)
    return Template(words, reads_file=None if kind is None else kind == "file"), preset


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    above_zero = checks.seconds(above_zero=True)
    tests = {
        "concurrency": checks.whole(1, 1_000),
        "timeout": above_zero,
        "stop_timeout": checks.seconds(),
        "max_output": checks.whole(0, 1_000_000_000),
        "lease": checks.number(1, requests.MAX_LEASE_MS // 1000),
    }
    return {name: tests.get(name, _any)(name, value) for name, value in options.items()}


def _any(_name: str, value: Any) -> Any:
    return value


def _state() -> Path:
    from platformdirs import user_state_path  # noqa: PLC0415  # not before it is used

    return user_state_path("mq9", appauthor=False) / "exec"


async def _run(options: ExecOptions) -> int:
    """Run the program; return its exit code."""
    client = Mq9Client(options.server, reconnect_attempts=_ATTEMPTS)
    try:
        async with asyncio.timeout(DEFAULT_TIMEOUT_S):
            await client.open()
    except TimeoutError:
        raise Unreachable(
            f"no mq9 broker answers at {shown_url(options.server)} within {DEFAULT_TIMEOUT_S:g} s"
        ) from None
    async with client:
        worker = CommandWorker(client, options)
        async with worker.working():
            stop_on_signals(worker.request_stop)
            typer.echo(f"{worker.agent} takes mail at {worker.mail_address}")
            await worker.wait()
    counters = worker.counters
    has_failed = counters.failed or counters.rejected or counters.interrupted
    return int(options.max_messages is not None and bool(has_failed))


app = new_app()
_parameters = parameters(_OPTIONS, _DEFAULTS)
app.command("exec", context_settings={"allow_interspersed_args": False})(
    taking(_parameters, _exec, _exec.__doc__)
)
