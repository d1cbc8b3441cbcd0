"""The program ``mq9``: its options and its commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.main

from mq9.cli import agents, demo, doctor, mailboxes, messages, passwords, redrive, why
from mq9.cli.call import Common, JsonOption, TimeoutOption, register
from mq9.cli.program import Program, new_app
from mq9.errors import InvalidRequest
from mq9.version import VERSION

HELP = """Mailboxes for AI agents: send, fetch, look, and find out why.

Without --url the broker is the one that MQ9_SERVER names, else the file that this user's programs
share.

Exit codes: 0 done; 1 refused or failed; 2 wrong arguments; 3 no broker answers; 4 nothing there;
130 interrupted.

Errors are one line on standard error. With --json the answer, or {"error": sentence, "code":
word}, is one line of JSON on standard output.
"""


class _Mq9(Program):
    """Loads ``serve`` and ``mcp`` when they are called: they need much that others do not."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return sorted({*super().list_commands(ctx), *_LATE})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command."""
        if cmd_name in _LATE and cmd_name not in self.commands:
            load, instead = _LATE[cmd_name]
            command = typer.main.get_command(load())
            run = command.invoke

            def invoke(context: Any) -> Any:
                if _is_given(context.parent):
                    raise InvalidRequest(
                        f"url: --url, --json and --timeout are for the other commands; {instead}"
                    )
                return run(context)

            command.invoke = invoke  # type: ignore[method-assign,assignment]  # typer knows no other way
            self.commands[cmd_name] = command
        return super().get_command(ctx, cmd_name)


def _is_given(context: Any) -> bool:
    """Tell whether a common option was given on the command line; a variable is for all alike."""
    return context is not None and any(
        getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"
        for name in ("url", "json", "timeout")
    )


def _serve() -> typer.Typer:
    from mq9.cli.serve import serve  # noqa: PLC0415  # see above

    one = new_app()
    one.command("serve")(serve)
    return one


def _mcp() -> typer.Typer:
    from mcp_server.cli import app  # noqa: PLC0415  # see above

    return app


_LATE: dict[str, tuple[Callable[[], typer.Typer], str]] = {
    "serve": (_serve, "where `serve` keeps its mail --data says"),
    "mcp": (_mcp, "the broker is named behind `mcp`, by --server"),
}


app = new_app(cls=_Mq9, help=HELP, add_completion=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mq9 {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar="MQ9_SERVER",
            metavar="URL",
            help="Broker: nats://host:port, tls://host:port or sqlite:///path. Others on this "
            "machine see the command line: put a password in the variable.",
        ),
    ] = None,
    json: JsonOption = False,
    timeout: TimeoutOption = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    context.obj = Common().with_those(url or None, json, timeout)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


_COMMANDS = (
    messages.send,
    messages.fetch,
    messages.ack,
    messages.query,
    mailboxes.create,
    mailboxes.drop,
    mailboxes.mailboxes,
    mailboxes.status,
    agents.agents,
    redrive.redrive,
    why.why,
    doctor.doctor,
    demo.demo,
    passwords.hash_password,
)
for _command in _COMMANDS:
    register(app, _command.__name__.replace("_", "-"), _command)
