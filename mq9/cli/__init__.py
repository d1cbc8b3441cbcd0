"""The command line ``mq9``, which is ``python -m mq9``, too. It needs the extra ``server``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mq9.cli.extras import MissingExtra, needing


def main() -> None:
    """Run the command that the program's arguments name, and exit."""

    def load() -> Callable[..., Any]:
        from mq9.cli.app import app  # noqa: PLC0415  # it may be missing what it needs

        return app

    run_program("mq9", load, "server")


def run_program(name: str, load: Callable[[], Callable[..., Any]], extra: str) -> None:
    """Run a program, and exit; where a module is missing, say which extra installs it.

    Args:
        name: What the program is called.
        load: Imports and returns the program.
        extra: The extra that installs what it imports.
    """
    try:
        _prepare_output()
        with needing(extra, "the command line"):
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
