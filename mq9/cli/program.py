"""How a program runs a command, and how its errors end it."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer
import typer.core

from mq9.cli.call import NOTHING_THERE
from mq9.cli.output import CannotWrite, PipeClosed, as_json, one_line, stop_writing
from mq9.errors import InvalidRequest, MessageNotFound, Mq9Error, Unreachable

_BROKEN_PIPE = 141  # as a shell reports a program that SIGPIPE ended
_INTERRUPTED = 130


class Program(typer.core.TyperGroup):
    """Says in one line what went wrong."""

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


def new_app(**options: Any) -> typer.Typer:
    """Return a program without commands, whose errors and help are plain text."""
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        **{"add_completion": False, **options},
    )
