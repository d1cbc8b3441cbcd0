"""``mq9-mcp hook``: the command of a host's hook, which runs many times an hour.

It asks the server of the host, and prints a notice for the host, or nothing. After any error the
host
continues: only a wrong command line ends with 1, which no host heeds.
"""

from __future__ import annotations

import json
import os
import sys

from mcp_server.delivery import servers
from mcp_server.delivery.shapes import EVENTS, START, STOP, WAKEABLE, read_event, write_answer

TYPE_CHECKING = False  # importing it from typing takes longer than all that is done here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

USAGE = "mq9-mcp hook HOST EVENT --agent NAME"
_APPEAR_S = 5.0  # hosts run the hooks of the start and start the servers at the same time
_ANSWER_S = 4.0
_MAX_INPUT = 8_388_608  # results of tools are in it


def run(arguments: Sequence[str]) -> int:
    """Run the hook that a command line names, and return the exit code."""
    words, options = split(arguments, ("agent",))
    agent = options.get("agent") or os.environ.get("MQ9_AGENT")
    if len(words) != 2 or words[0] not in EVENTS or words[1] not in EVENTS[words[0]] or not agent:
        return misused(USAGE, EVENTS)
    host, event = words
    document = read_input()
    call = read_event(host, event, document)
    if call is None:
        return 0
    parent = parent_process()
    answer = servers.ask(
        {
            "do": "hook",
            "host": host,
            "session": call.session,
            "occasion": call.occasion,
            "continued": call.continued,
            "parent": parent,
        },
        agent,
        parent=parent,
        directory=working_directory(document),
        appear_s=_APPEAR_S if call.occasion == START else 0.0,
        answer_s=_ANSWER_S,
    )
    if answer is None:
        return 0
    printed = write_answer(host, event, answer.get("text"), answer.get("person"))
    if printed:
        sys.stdout.write(printed + "\n")
        sys.stdout.flush()
    # Claude Code starts its watchers itself.
    rests = call.occasion in {START, STOP} and answer.get("text") is None
    if host in WAKEABLE and host != "claude-code" and rests and not answer.get("watched"):
        _start_watcher(host, agent, call.session, str(answer["pid"]))
    return 0


def split(arguments: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the words of a command line, and its options with their values."""
    words, options, rest = [], {}, list(arguments)
    while rest:
        word = rest.pop(0)
        name, _, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in names:
            words.append(word)
        elif "=" in word:
            options[name] = value
        elif rest:
            options[name] = rest.pop(0)
    return words, options


def misused(usage: str, hosts: Sequence[str] | dict[str, Any] | Any) -> int:
    """Say how a program is called; the exit code, which stops no host."""
    sys.stderr.write(f"error: write {usage}, with HOST one of {', '.join(hosts)}\n")
    return 1


def read_input() -> dict[str, Any]:
    """Read standard input to its end, and return the message of the host."""
    if sys.stdin is None:
        return {}
    try:
        data = sys.stdin.buffer.read(_MAX_INPUT + 1)
        if len(data) > _MAX_INPUT:
            while sys.stdin.buffer.read(_MAX_INPUT):
                pass
            return {}
        document = json.loads(data)
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def parent_process() -> int:
    """Return the process of the host, if it is known."""
    given = os.environ.get("CLAUDE_PID", "")
    return int(given) if given.isdecimal() else os.getppid()


def working_directory(document: dict[str, Any]) -> str:
    """Return where the host works, which is where it was started: a model may go elsewhere."""
    given = os.environ.get("CLAUDE_PROJECT_DIR") or os.environ.get("GEMINI_PROJECT_DIR")
    given = given or document.get("cwd")
    try:
        return os.path.realpath(given if isinstance(given, str) and given else os.getcwd())
    except (OSError, ValueError):
        return ""


def _start_watcher(host: str, agent: str, session: str, pid: str) -> None:
    """Start the watcher of a session in the background, with nothing of this process's.

    It asks no server but that of the session: others stay when the session is closed.
    """
    import subprocess  # noqa: PLC0415  # most hooks start none

    # -P: what lies in the project's directory is not imported.
    command = [sys.executable, "-P", "-m", "mcp_server", "watch", host]
    how: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        how = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        subprocess.Popen(  # noqa: S603  # our own program
            [*command, "--agent", agent, "--session", session, "--pid", pid],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **how,
        )
    except OSError as error:
        sys.stderr.write(f"the watcher could not be started: {error}\n")
