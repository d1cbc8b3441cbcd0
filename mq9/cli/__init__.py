"""The command line: ``mq9``, which is the same as ``python -m mq9``, and ``mq9-mcp``.

They need the extras ``server`` and ``mcp``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# What no extra installs.
_ALWAYS = {"mq9", "mcp_server", "langchain_mq9"} | {
    *("langchain_core", "langgraph", "nats", "orjson", "platformdirs", "pydantic")
}


def main() -> None:
    """Run the command that the program's arguments name, and exit."""

    def load() -> Callable[..., Any]:
        from mq9.cli.app import app  # noqa: PLC0415  # it may be missing what it needs

        return app

    _start("mq9", load, "server")


def mcp_main() -> None:
    """Run ``mq9-mcp``, which is the same as ``mq9 mcp``, and exit."""

    def load() -> Callable[..., Any]:
        from mcp_server.startup.begin import begin  # noqa: PLC0415  # only this program needs it

        front = begin(sys.argv[1:], os.environ)
        from mcp_server.cli import app  # noqa: PLC0415  # it may be missing what it needs

        return partial(app, obj=front)

    _start("mq9-mcp", load, "mcp")


def _start(program: str, load: Callable[[], Callable[..., Any]], extra: str) -> None:
    try:
        _prepare_output()
        app = load()
        app(prog_name=program)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in _ALWAYS:
            raise
        if missing == "mcp":
            extra = "mcp"  # also for `mq9 mcp`
        sys.stderr.write(
            f"error: the command line needs {error.name}, which the extra `{extra}` of this package"
            f" installs; in a clone of it: pip install '.[{extra}]'\n"
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
