"""The program ``mq9-mcp``, which begins to answer before the rest of it is loaded."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing it from typing takes longer than a hook may
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def main() -> None:
    """Run ``mq9-mcp``, which is the same as ``mq9 mcp``, and exit."""
    name, *rest = sys.argv[1:] or ("",)
    if name in {"hook", "watch", "permission"} and "--help" not in rest:
        try:
            sys.exit(_deliver(name, rest))
        except (BrokenPipeError, KeyboardInterrupt):
            os._exit(130)  # the host has ended; Python would print a traceback
    from mq9.cli import run_program  # noqa: PLC0415  # hooks do without

    run_program("mq9-mcp", _load, "mcp")


def _deliver(name: str, rest: list[str]) -> int:
    """Run a hook or a watcher, for which nothing else is loaded."""
    if name == "hook":
        from mcp_server.delivery.hook import run  # noqa: PLC0415  # one of the three is needed
    elif name == "permission":
        from mcp_server.delivery.permission import run  # noqa: PLC0415
    else:
        from mcp_server.delivery.watch import run  # noqa: PLC0415
    return run(rest)


def _load() -> Callable[..., Any]:
    from functools import partial  # noqa: PLC0415  # hooks do without

    from mcp_server.startup.begin import begin  # noqa: PLC0415  # it may lack what it needs

    reader = begin(sys.argv[1:], os.environ)
    from mcp_server.cli import app  # noqa: PLC0415  # what the client asks first is answered by now

    return partial(app, obj=reader)
