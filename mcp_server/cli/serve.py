"""``mq9-mcp`` without a command: serving MCP, with the options of ``mcp_server.options``."""

from __future__ import annotations

import asyncio
import inspect
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from mcp_server.cli import SUMMARY
from mcp_server.http.settings import http_settings, refuse_http_options
from mcp_server.options import DECLARED, FIELDS, LOG_LEVELS, Options, flag
from mcp_server.settings import AUTO
from mcp_server.startup.stdin_reader import StdinReader
from mq9.cli import logs
from mq9.cli.program import Program, new_app
from mq9.errors import InvalidRequest

_HELP = f"""{SUMMARY}

Without a command it serves MCP on standard input and output, which is how hosts start it:
`mq9-mcp install HOST` writes that into a host's configuration. With --http it serves streamable
HTTP instead.

Without --server the broker is the one that MQ9_SERVER names, else the file that this user's
programs share: two hosts on one machine can write to each other with nothing else running.
"""

app = new_app(cls=Program, help=_HELP)


def _serve(context: typer.Context, **given: Any) -> None:
    if find_spec("mcp") is None:  # what needs it is loaded when it is used
        raise ModuleNotFoundError("No module named 'mcp'", name="mcp")
    if context.invoked_subcommand is not None:
        _refuse_options(context, context.invoked_subcommand)
        return
    options = Options(**given)
    check_log_level(options)
    logs.configure(options.log_level, os.environ.get("MQ9_LOG_FORMAT") or "text")
    settings = options.settings()
    if options.http:
        http = http_settings(options, settings)
        from mcp_server.http.serving import serve_http  # noqa: PLC0415  # the SDK takes a second

        asyncio.run(serve_http(settings, options.agent, options.mail_address, options.server, http))
        return
    refuse_http_options(options)
    if options.agent == AUTO and options.mail_address is not None:
        raise InvalidRequest(
            f"mail_address: {options.mail_address!r} is one mailbox, and agents that are named "
            "automatically have one each; leave it out, or give the agent a name"
        )
    reader = context.obj if isinstance(context.obj, StdinReader) else None
    agent = options.known_agent()
    from mcp_server.stdio import serve_stdio  # noqa: PLC0415  # the SDK takes a second

    asyncio.run(serve_stdio(settings, agent, options.mail_address, options.server, reader))


def check_log_level(options: Options) -> None:
    """Refuse a level of the log that is none.

    Raises:
        InvalidRequest: It is none.
    """
    level = options.log_level
    if level.lower() not in LOG_LEVELS:
        raise InvalidRequest(f"log_level: {level!r} is not debug, info, warning or error")


def _refuse_options(context: typer.Context, command: str) -> None:
    """Refuse what stands before a command, which would not heed it."""
    for name, value in context.params.items():
        if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE":
            raise InvalidRequest(
                f"{name}: {value!r} is for serving; what {command} takes stands behind it"
            )


def _parameters() -> list[inspect.Parameter]:
    """Return the options as typer reads them from a signature."""
    kind = inspect.Parameter.KEYWORD_ONLY
    types = get_type_hints(Options)
    return [
        inspect.Parameter(
            name,
            kind,
            default=FIELDS[name].default,
            annotation=Annotated[
                types[name],
                typer.Option(
                    flag(name),
                    help=one.help,
                    envvar=one.variable,
                    metavar=one.metavar,
                    min=one.least,
                    max=one.most,
                    dir_okay=types[name] != Path | None,
                ),
            ],
        )
        for name, one in DECLARED.items()
    ]


_context = inspect.Parameter(
    "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
)
_all = [_context, *_parameters()]
_serve.__signature__ = inspect.Signature(_all)  # type: ignore[attr-defined]  # typer reads it
_serve.__annotations__ = {one.name: one.annotation for one in _all}
app.callback(invoke_without_command=True)(_serve)
