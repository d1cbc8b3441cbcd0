"""The command line ``mq9``, also ``python -m mq9``. ``mq9 serve`` needs the extra ``server``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mq9.errors import InvalidRequest


def main() -> None:
    """Run the command that the program's arguments name, and exit."""

    def load() -> Callable[..., Any]:
        from mq9.cli.app import app  # noqa: PLC0415  # it may be missing what it needs

        return app

    run_program("mq9", load, "server")


def run_program(name: str, load: Callable[[], Callable[..., Any]], extra: str) -> None:
    """Run a program, and exit; where a module is missing, say which extra installs it."""
    try:
        _prepare_output()
        with needing(extra, "this command"):
            load()(prog_name=name)
    except MissingExtra as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _prepare_output() -> None:
    """Let every character be written, and let output that was closed go nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # stays open
            setattr(sys, name, nowhere)
        else:
            stream.reconfigure(errors="backslashreplace")


# What is installed without any extra, so that no extra is to blame where it is missing.
_ALWAYS = {"mq9", "mcp_server", "langchain_mq9"} | {
    *("langchain_core", "langgraph", "orjson", "platformdirs", "pydantic")
}


class MissingExtra(InvalidRequest):
    """A module is not installed; the text names it and the extra that installs it."""


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Blame a module that is missing while inside on an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in _ALWAYS:
            raise
        raise MissingExtra(
            f"{what} needs {error.name}, which the extra `{extra}` of this package installs; "
            f"in a clone of it: pip install '.[{extra}]'"
        ) from error
