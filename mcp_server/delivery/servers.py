"""The servers that run on this machine: a file each, and how a hook asks one of them.

Every hook of a host loads this module. So it needs neither asyncio nor the broker's client.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

TYPE_CHECKING = False  # importing it from typing takes longer than all that is done here
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_LINE = 1_048_576  # bytes of a request, and of an answer
_MAX_FILE = 4_096
_CONNECT_S = 1.0
_PAUSE_S = 0.1
# No server listens. Windows needs two seconds to report that; a running server answers at once.
_GONE = (
    ConnectionRefusedError,
    OverflowError,
    *([TimeoutError] if sys.platform == "win32" else []),
)
_MEMBERS = {
    "port": int,
    "secret": str,
    "proof": str,
    "agent": str,
    "pid": int,
    "parent": int,
    "directory": str,
}


def folder() -> str | None:
    """Return the folder of the files, the same for all of a user's programs on this machine.

    It depends on the home only: hosts start servers with fewer variables than hooks. The machine is
    a part of it, since homes may be shared. None without a home.
    """
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        return None
    if sys.platform == "win32":
        state = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        state = os.path.join(home, "Library", "Application Support")
    else:
        state = os.path.join(home, ".local", "state")
    machine = "".join(one if one.isalnum() else "-" for one in socket.gethostname())
    return os.path.join(state, "mq9", "servers", machine or "-")


def found(agent: str, *, parent: int, directory: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the running servers of an agent, with their files: the likeliest one first.

    Args:
        agent: The name that they were started with.
        parent: The process that started the hook.
        directory: Where the host works. A server of ``auto`` is another agent elsewhere.
    """

    def likeness(item: tuple[str, dict[str, Any]]) -> tuple[bool, bool]:
        return item[1]["parent"] == parent, item[1]["directory"] == directory

    ours = [
        item
        for item in _all()
        if item[1]["agent"] == agent and (agent != "auto" or any(likeness(item)))
    ]
    return sorted(ours, key=likeness, reverse=True)


def _all() -> Iterator[tuple[str, dict[str, Any]]]:
    place = folder()
    try:
        names = [] if place is None else sorted(os.listdir(place), reverse=True)
    except OSError:
        return
    for name in names:
        path = os.path.join(place or "", name)
        one = _read(path) if name.endswith(".json") else None
        if one is not None:
            yield path, one


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            one = json.loads(file.read(_MAX_FILE))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(one, dict):
        return None
    fits = all(type(one.get(name)) is kind for name, kind in _MEMBERS.items())
    return one if fits else None


def ask(
    request: dict[str, Any],
    agent: str,
    *,
    parent: int,
    directory: str,
    appear_s: float,
    answer_s: float | None,
    pid: str | None = None,
) -> dict[str, Any] | None:
    """Ask a server of an agent; None when there is none, or it does not answer.

    Args:
        request: What is asked.
        agent: The name that the server was started with.
        parent: The process that started the hook.
        directory: Where the host works.
        appear_s: Longest wait in seconds until a server exists and knows its agent.
        answer_s: Longest wait in seconds for an answer; None: as long as it runs.
        pid: The process of the server, where no other one is to be asked.
    """
    until = time.monotonic() + appear_s
    while True:
        for path, server in found(agent, parent=parent, directory=directory):
            if pid not in {None, str(server["pid"])}:
                continue
            answer = _asked(path, server, request, answer_s)
            if answer is not None and answer.get("ready"):
                return {**answer, "pid": server["pid"]}
        if time.monotonic() >= until:
            return None
        time.sleep(_PAUSE_S)


def _asked(
    path: str, server: dict[str, Any], request: dict[str, Any], answer_s: float | None
) -> dict[str, Any] | None:
    """Ask one server. A file without a server is removed."""
    try:
        connection = socket.create_connection(("127.0.0.1", server["port"]), _CONNECT_S)
    except _GONE:
        _remove(path)
        return None
    except OSError:
        return None
    with connection:
        try:
            connection.settimeout(answer_s)
            line = json.dumps({**request, "secret": server["secret"]}).encode() + b"\n"
            connection.sendall(line)
            data = b""
            while not data.endswith(b"\n") and len(data) < MAX_LINE:
                more = connection.recv(65_536)
                if not more:
                    break
                data += more
            answer = json.loads(data) if data else {}
        except (OSError, ValueError, RecursionError):
            return None
    # Another program may have the port now. It has got a secret that is no longer valid.
    if not isinstance(answer, dict) or answer.get("proof") != server["proof"]:
        if data:
            _remove(path)
        return None
    return answer


def remove_stale() -> None:
    """Remove the files of servers that have ended without doing so."""
    for path, one in _all():
        try:
            socket.create_connection(("127.0.0.1", one["port"]), _CONNECT_S).close()
        except _GONE:
            _remove(path)
        except OSError:
            continue


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
