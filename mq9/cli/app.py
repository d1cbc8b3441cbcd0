"""The program ``mq9``: its options and its commands."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import typer
import typer.core
import typer.main

from mq9.cli import (
    MissingExtra,
    agents,
    cluster,
    demo,
    doctor,
    inbox,
    mailboxes,
    message_history,
    messages,
    needing,
    plugins,
    redrive,
    users,
)
from mq9.cli.help import EXAMPLES, OTHER_NAMES, write_groups
from mq9.cli.program import (
    Common,
    JsonOption,
    Program,
    TimeoutOption,
    is_typed,
    new_app,
    register,
)
from mq9.errors import InvalidRequest
from mq9.version import VERSION

HELP = """Mailboxes for AI agents.

The broker is --url, or MQ9_SERVER, or the file that all programs of your user share.

Exit codes: 0 done; 1 refused or failed; 2 wrong arguments; 3 no broker answers; 4 no such message;
130 interrupted.

Errors are one line on standard error. --json prints the result, or {"error": sentence, "code":
word}, as one line of JSON on standard output.
"""


# Commands of this package that are loaded when they are called, and their summaries.
_LATER = {
    "exec": ("mq9.cli.exec.command:app", "Run a command for each message to an agent."),
    "serve": ("mq9.cli.serve:app", "Run a broker for NATS clients."),
}


class _Mq9(Program):
    """Loads large commands, and those of other packages, when they are called.

    The help also lists a command whose package is not installed. Running it names the extra.
    """

    examples = EXAMPLES

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *_LATER, *plugins.COMMANDS})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None for an unknown name."""
        if cmd_name not in self.commands:
            if cmd_name in _LATER:
                found = resolve_name(_LATER[cmd_name][0])
                self.commands[cmd_name] = _without_common_options(found, "server")
            elif cmd_name in plugins.COMMANDS:
                self.commands[cmd_name] = _without_common_options(_plugin(cmd_name), cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that was typed, or suggest one for a mistyped name."""
        if args and args[0] in OTHER_NAMES and args[0] not in self.list_commands(ctx):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {OTHER_NAMES[args[0]]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands into the help of the program, without loading any."""
        listed: dict[str, Any] = {
            name: typer.core.TyperCommand(name, help=text)
            for name, text in [
                *((name, text) for name, (_, text) in _LATER.items()),
                *plugins.SUMMARIES.items(),
            ]
        }
        write_groups({**listed, **self.commands}, formatter)


def _without_common_options(one: typer.Typer, extra: str) -> Any:
    """Return a command that refuses the options of the others before its name."""
    command = typer.main.get_command(one)
    run = command.invoke

    def invoke(context: Any) -> Any:
        parent = context.parent
        if parent and any(is_typed(parent, name) for name in ("url", "json", "timeout")):
            raise InvalidRequest(
                "url: --url, --json and --timeout are for the other commands; what "
                f"`{context.info_name}` takes stands behind its name"
            )
        with needing(extra, f"{context.info_name}: it"):
            return run(context)

    command.invoke = invoke  # type: ignore[method-assign,assignment]  # typer knows no other way
    return command


def _plugin(name: str) -> typer.Typer:
    try:
        found: typer.Typer = plugins.load(plugins.COMMANDS, name)
    except MissingExtra as error:
        missing = error
    else:
        return found
    instead = new_app()

    @instead.command(
        name,
        help=f"{missing}.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def refuse() -> None:
        raise missing

    return instead


app = new_app(cls=_Mq9, help=HELP, add_completion=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mq9 {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    url: str | None = typer.Option(
        None,
        "--url",
        envvar="MQ9_SERVER",
        metavar="URL",
        help="Broker: nats://host:port, tls://host:port or sqlite:///path. Put a password in the "
        "variable: other users of this machine see the command line.",
    ),
    json: JsonOption = False,
    timeout: TimeoutOption = None,
    _version: bool = typer.Option(
        False,
        "--version",
        callback=_show_version,
        is_eager=True,
        help="Print the version and exit.",
    ),
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
    inbox.inbox,
    inbox.reply,
    mailboxes.create,
    mailboxes.grant,
    mailboxes.drop,
    mailboxes.mailboxes,
    mailboxes.status,
    agents.agents,
    redrive.redrive,
    message_history.why,
    doctor.doctor,
    demo.demo,
    agents.hash_password,
)
for _command in _COMMANDS:
    register(
        app,
        _command.__name__.replace("_", "-"),
        _command,
        needs_broker=_command not in {demo.demo, agents.hash_password},
    )
app.add_typer(cluster.app, name="cluster")
app.add_typer(users.app, name="users")
