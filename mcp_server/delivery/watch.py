"""``mq9-mcp watch``: waits until mail wakes a session that rests.

It waits for one answer of the server that the host runs, and ends when that server ends. The
server lets one watcher of a session wait: the newest.
"""

from __future__ import annotations

import os
import sys

from mcp_server.delivery import servers
from mcp_server.delivery.hook import (
    misused,
    parent_process,
    read_input,
    split,
    working_directory,
)
from mcp_server.delivery.shapes import WAKEABLE, read_session

TYPE_CHECKING = False  # importing it from typing takes longer than all that is done here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE = "mq9-mcp watch HOST --agent NAME [--session ID]"
_APPEAR_S = 60.0  # a watcher delays nobody
_WAKE_TIMEOUT_S = 30


def run(arguments: Sequence[str]) -> int:
    """Watch for the session that a command line or the host names; the exit code.

    A hook that starts it names the process of the server too, with ``--pid``.
    """
    words, options = split(arguments, ("agent", "session", "pid"))
    agent = options.get("agent") or os.environ.get("MQ9_AGENT")
    if len(words) != 1 or words[0] not in WAKEABLE or not agent:
        return misused(USAGE, WAKEABLE)
    [host] = words
    document = {} if "session" in options else read_input()
    session = options.get("session") or read_session(document)
    if session is None or not is_attended(os.environ):
        return 0
    codex = _codex() if host == "codex" else None
    if host == "codex" and codex is None:
        sys.stderr.write("error: codex was not found on PATH. Install it, or add it to PATH\n")
        return 1
    parent = parent_process()
    answer = servers.ask(
        {"do": "watch", "host": host, "session": session, "parent": parent},
        agent,
        parent=parent,
        directory=working_directory(document),
        appear_s=_APPEAR_S,
        answer_s=None,
        pid=options.get("pid"),
    )
    text = None if answer is None else answer.get("text")
    if text is None:
        return 0
    if codex is not None:
        return _queue(codex, session, text)
    sys.stderr.write(text + "\n")
    return 2  # which wakes Claude Code


def is_attended(environment: Mapping[str, str]) -> bool:
    """Return whether a session stays open after its turn, as in a terminal.

    Without a terminal Claude Code would wait for its watcher instead of ending.
    """
    return (
        environment.get("CLAUDE_CODE_SESSION_ATTENDED") != "0"
        and environment.get("CLAUDE_CODE_ENTRYPOINT", "cli") == "cli"
    )


def _codex() -> str | None:
    from shutil import which  # noqa: PLC0415  # only where it is needed

    return which("codex")


def _queue(codex: str, session: str, text: str) -> int:
    """Have Codex begin a turn of a session."""
    import subprocess  # noqa: PLC0415  # only where it is needed

    try:
        return subprocess.run(  # noqa: S603  # no shell, and only words of our own
            [codex, "queue", "--thread", session, "--message", text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=_WAKE_TIMEOUT_S,
            check=False,
        ).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"error: Codex could not be woken: {error}\n")
        return 1
