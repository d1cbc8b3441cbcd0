"""The program ``mq9-mcp``, which begins to answer before the rest of it is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from mq9.cli import run_program


def main() -> None:
    """Run ``mq9-mcp``, which is the same as ``mq9 mcp``, and exit."""
    run_program("mq9-mcp", _load, "mcp")


def _load() -> Callable[..., Any]:
    from mcp_server.startup.begin import begin  # noqa: PLC0415  # it may lack what it needs

    reader = begin(sys.argv[1:], os.environ)
    from mcp_server.cli import app  # noqa: PLC0415  # what the client asks first is answered by now

    return partial(app, obj=reader)
