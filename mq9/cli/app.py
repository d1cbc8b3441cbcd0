"""The program ``mq9``: its options, its commands, and how its errors end it."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, NoReturn

import typer
import typer.core
import typer.main

from mq9.cli import agents, demo, doctor, mailboxes, messages, why
from mq9.cli.call import NOTHING_THERE, Common, JsonOption, TimeoutOption, register
from mq9.cli.output import CannotWrite, PipeClosed, as_json, one_line, stop_writing
from mq9.errors import InvalidRequest, MessageNotFound, Mq9Error, Unreachable

_BROKEN_PIPE = 141  # as a shell reports a program that SIGPIPE ended
_INTERRUPTED = 130

HELP = """Mailboxes for AI agents: send, fetch, look, and find out why.

Without --url the broker is the one that MQ9_SERVER names, else the file that this user's programs
share.

Exit codes: 0 done; 1 refused or failed; 2 wrong arguments; 3 no broker answers; 4 nothing there;
130 interrupted.

Errors are one line on standard error. With --json the answer, or {"error": sentence, "code":
word}, is one line of JSON on standard output.
"""


class _Program(typer.core.TyperGroup):
    """Loads what a command needs when it is called, and says in one line what went wrong."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return sorted({*super().list_commands(ctx), "serve"})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; ``serve`` is loaded here, since it needs much that others do not."""
        if cmd_name == "serve" and "serve" not in self.commands:
            from mq9.cli.serve import serve  # noqa: PLC0415  # see above

            one = _new_app()
            one.command("serve")(serve)
            command = typer.main.get_command(one)
            run = command.invoke

            def invoke(context: Any) -> Any:
                if context.obj not in {None, Common()}:
                    raise InvalidRequest(
                        "url: --url, --json and --timeout are for the other commands; where "
                        "`serve` keeps its mail --data says"
                    )
                return run(context)

            command.invoke = invoke  # type: ignore[method-assign,assignment]  # typer knows no other way
            self.commands["serve"] = command
        return super().get_command(ctx, cmd_name)

    def main(self, args: Any = None, *others: Any, **options: Any) -> Any:
        """Run a command and exit."""
        given = sys.argv[1:] if args is None else list(args)
        wants_json = "--json" in given[: given.index("--") if "--" in given else len(given)]
        options["standalone_mode"] = False
        try:
            code = super().main(given, *others, **options)
        except typer.TyperException as error:
            message = error.format_message()
            _fail(
                message, "usage" if error.exit_code == 2 else "error", error.exit_code, wants_json
            )
        except Mq9Error as error:
            _fail(str(error), error.code, exit_code(error), wants_json)
        except CannotWrite as error:
            stop_writing()
            _fail(str(error), "output", 1, wants_json=False)
        except OSError as error:
            stop_writing()
            _fail(str(error), "system", 1, wants_json=False)
        except PipeClosed:
            stop_writing()
            sys.exit(_BROKEN_PIPE)
        except typer.Abort:
            sys.exit(_INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: Mq9Error) -> int:
    """Return the exit code that says what kind of error it was."""
    if isinstance(error, InvalidRequest):
        return 2
    if isinstance(error, Unreachable):
        return 3
    if isinstance(error, MessageNotFound):
        return NOTHING_THERE
    return 1


def _fail(message: str, word: str, code: int, wants_json: bool) -> NoReturn:
    if wants_json:
        sys.stdout.write(as_json({"error": message, "code": word}) + "\n")
    else:
        sys.stderr.write(f"error: {one_line(message)}\n")
    sys.exit(code)


def _new_app(**options: Any) -> typer.Typer:
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        **{"add_completion": False, **options},
    )


app = _new_app(cls=_Program, help=HELP, add_completion=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            number = version("langchain-mq9")
        except PackageNotFoundError:
            number = "of no installed version"
        typer.echo(f"mq9 {number}")
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
    why.why,
    doctor.doctor,
    demo.demo,
)
for _command in _COMMANDS:
    register(app, _command.__name__, _command)
