"""Runs a command: common options, the client, and exit codes of errors."""

from __future__ import annotations

import asyncio
import difflib
import inspect
import logging
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NoReturn

import typer
import typer.core

from mq9 import address as addresses
from mq9 import logs
from mq9.cli.help import explain
from mq9.cli.output import CannotWrite, Output, PipeClosed, as_json, coloured, stop_writing
from mq9.client.client import Mq9Client
from mq9.errors import InvalidRequest, MailboxNotFound, MessageNotFound, Mq9Error, Unreachable
from mq9.printable import one_line
from mq9.protocol import checks
from mq9.transport.open import default_url, shown_url

NOTHING_THERE = 4  # the exit code of a command that found nothing
DEFAULT_TIMEOUT_S = 5.0
_MOST_COMPARED = 200  # agents whose mailboxes are compared with a missing one

_URL = "Broker.  [env: MQ9_SERVER, which hides a password from `ps`; default: one file per user]"
_TIMEOUT = f"Seconds to wait for the broker.  [default: {DEFAULT_TIMEOUT_S:g}]"


@dataclass(frozen=True, slots=True)
class Common:
    """The options of every command, before or after its name."""

    url: str | None = None
    as_json: bool = False
    timeout: float = DEFAULT_TIMEOUT_S

    def with_those(self, url: str | None, as_json: bool, timeout: float | None) -> Common:
        """Return them with the values given after the command's name."""
        return Common(
            self.url if url is None else url,
            self.as_json or as_json,
            self.timeout if timeout is None else timeout,
        )


@dataclass(frozen=True, slots=True)
class CommandCall:
    """One call of a command."""

    url: str | None
    timeout: float
    out: Output

    @property
    def full_url(self) -> str:
        """The broker, with credentials."""
        return default_url() if self.url is None else self.url

    @property
    def shown_url(self) -> str:
        """The broker, without secrets."""
        return shown_url(self.full_url)

    @property
    def is_in_memory(self) -> bool:
        """Whether the broker is in this process, without a file."""
        return self.full_url.startswith("memory:")

    def warn_of_memory(self) -> None:
        """Warn that an in-memory broker loses its mail when the command ends."""
        if self.is_in_memory:
            self.out.warn(
                f"{self.shown_url} is in the memory of this process: the mail is lost when the "
                "command ends"
            )

    def empty(self, document: dict[str, Any], notice: str) -> int:
        """Print that a list is empty, which is no failure; return the exit code."""
        self.out.show(document)
        self.out.notice(notice)
        return 0

    def nothing(self, document: dict[str, Any], notice: str) -> int:
        """Print that nothing was found; return the exit code."""
        return self.empty(document, notice) or NOTHING_THERE

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Mq9Client]:
        """Be connected to the broker while inside."""
        client = Mq9Client(
            self.url, request_timeout=self.timeout, reconnect_attempts=1, reconnect_delay=0
        )
        try:
            async with asyncio.timeout(self.timeout):
                await client.open()
        except TimeoutError:
            raise Unreachable(
                f"no mq9 broker answers at {self.shown_url} within {self.timeout:g} s"
            ) from None
        async with client:
            try:
                yield client
            except MailboxNotFound as error:
                if missing := _MISSING.fullmatch(str(error)):
                    for near in await _near(client, missing[1]):
                        error.add_note(near)
                raise


async def _near(client: Mq9Client, address: str) -> list[str]:
    """Return the mailbox with the address nearest to a missing one, if any is near."""
    with suppress(Mq9Error):  # the mailbox is missing, whatever else fails
        agents = await client.agent_discover(limit=_MOST_COMPARED)
        public = await client.mailbox_list()
        known = {one.match.mailbox for one in agents} | {one.mail_address for one in public}
        return difflib.get_close_matches(address, sorted(known), n=1)
    return []


Address = Annotated[str, typer.Argument(help="The mailbox.", callback=addresses.parse)]
UrlOption = Annotated[str | None, typer.Option("--url", metavar="URL", help=_URL)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TimeoutOption = Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help=_TIMEOUT)]


_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_COMMON = (
    inspect.Parameter("url", _KEYWORD, default=None, annotation=UrlOption),
    inspect.Parameter("json", _KEYWORD, default=False, annotation=JsonOption),
    inspect.Parameter("timeout", _KEYWORD, default=None, annotation=TimeoutOption),
)


def register(
    app: typer.Typer,
    name: str,
    function: Callable[..., Coroutine[Any, Any, int]],
    *,
    needs_broker: bool = True,
) -> None:
    """Make a coroutine function a command, with the common options that it needs."""
    _, *own = inspect.signature(function, eval_str=True).parameters.values()

    def run(context: typer.Context, **given: Any) -> None:
        logs.configure_by_variables("warning")
        # asyncio logs a refused TLS connection in words that mean nothing to people.
        logging.getLogger("asyncio").setLevel(logging.ERROR)
        common: Common = context.obj or Common()
        of_command = (given.pop(one.name, one.default) for one in _COMMON)
        common = common.with_those(*of_command)
        seconds = checks.seconds(above_zero=True)("timeout", common.timeout)
        call = CommandCall(common.url, seconds, Output(as_json=common.as_json))
        raise typer.Exit(asyncio.run(function(call, **given)))

    context = inspect.Parameter("context", _KEYWORD, annotation=typer.Context)
    shared = [one for one in _COMMON if needs_broker or one.name == "json"]
    app.command(name)(taking([context, *own, *shared], run, function.__doc__))


def taking(
    parameters: Sequence[inspect.Parameter], run: Callable[..., None], help_: str | None
) -> Callable[..., None]:
    """Give a function of keywords the signature from which typer makes options."""
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__doc__ = help_
    return run


def is_typed(context: Any, name: str) -> bool:
    """Return whether an option was given on the command line, and not by a variable."""
    return getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"


_BROKEN_PIPE = 141  # as a shell reports a program that SIGPIPE ended
_INTERRUPTED = 130


class Program(typer.core.TyperGroup):
    """Reports errors in one line, and explains its commands with words and examples."""

    examples: ClassVar[Mapping[str, Sequence[str]]] = {}  # by command

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        explain(self)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None for an unknown name."""
        command = super().get_command(ctx, cmd_name)
        for name, one in getattr(command, "commands", {}).items():
            explain(one, self.examples.get(f"{cmd_name} {name}", ()))
        return None if command is None else explain(command, self.examples.get(cmd_name, ()))

    def main(self, args: Any = None, *others: Any, **options: Any) -> Any:
        """Run a command and exit."""
        given = sys.argv[1:] if args is None else list(args)
        wants_json = "--json" in given[: given.index("--") if "--" in given else len(given)]
        options["standalone_mode"] = False
        try:
            code = super().main(given, *others, **options)
        except typer.TyperException as error:
            message = error.format_message()
            if message.startswith("Missing ") and (example := _example_of(error)):
                message = f"{message.rstrip('.')}. Example: {example}"
            _fail(
                message, "usage" if error.exit_code == 2 else "error", error.exit_code, wants_json
            )
        except Mq9Error as error:
            text = str(error) if wants_json else _with_next_command(error, given)
            _fail(text, error.code, exit_code(error), wants_json)
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
            sys.stderr.write("aborted\n")
            sys.exit(_INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _example_of(error: typer.TyperException) -> str:
    """Return an example of the command that was used wrongly; empty if there is none."""
    context = getattr(error, "ctx", None)
    path = "" if context is None else context.command_path
    examples = getattr(context and context.find_root().command, "examples", {})
    return next(iter(examples.get(path.partition(" ")[2], ())), "")


def exit_code(error: Mq9Error) -> int:
    """Return the exit code of a kind of error."""
    if isinstance(error, InvalidRequest):
        return 2
    if isinstance(error, Unreachable):
        return 3
    if isinstance(error, MessageNotFound):
        return NOTHING_THERE
    return 1


_MISSING = re.compile(r"mailbox not found: ([a-z0-9.]+) does not exist(, after .*)?")


def _with_next_command(error: Mq9Error, given: Sequence[str]) -> str:
    """Return the text of an error, and the command that helps, if one is known."""
    text = str(error)
    if missing := _MISSING.fullmatch(text):
        reason = f'mailbox "{missing[1]}" does not exist{missing[2] or ""}'
        # Messages of others name mailboxes, too. Only those that the user typed are to be created.
        if missing[1] not in given:
            return reason
        meant = "".join(f". Did you mean {near}?" for near in getattr(error, "__notes__", ()))
        return f"{reason}{meant or '.'} Create it: mq9 create {missing[1]}"
    if isinstance(error, Unreachable):
        return f"{text}. Find out why: mq9 doctor"
    return text


def _fail(message: str, word: str, code: int, wants_json: bool) -> NoReturn:
    if wants_json:
        sys.stdout.write(as_json({"error": message, "code": word}) + "\n")
    else:
        label = coloured("error: ", "red", sys.stderr)
        sys.stderr.write(f"{label}{one_line(message)}\n")
    sys.exit(code)


def new_app(**options: Any) -> typer.Typer:
    """Return a program without commands, whose errors and help are plain text."""
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **{"add_completion": False, **options},
    )
