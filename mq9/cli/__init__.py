"""The command line: ``mq9``, which is the same as ``python -m mq9``.

It needs the extra ``server``. ``main`` is the only name to import from here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_EXTRA = {"click", "prometheus_client", "rich", "shellingham", "starlette", "typer", "uvicorn"}


def main() -> None:
    """Run the command that the program's arguments name, and exit."""
    try:
        from mq9.cli.app import app  # noqa: PLC0415  # it may be missing what it needs

        _prepare_output()
        app(prog_name="mq9")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(
            f"error: the command line needs {error.name}, which the extra `server` of this package"
            " installs; in a clone of it: pip install '.[server]'\n"
        )
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
