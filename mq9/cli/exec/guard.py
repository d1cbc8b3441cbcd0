"""The guard of one command: a small program that ``mq9 exec`` starts for each message.

It leads a session of its own, and starts the command in its process group. The group ends when the
command has ended, when the lease is over, when it is told to, or when the socket to ``mq9 exec``
closes, as it does when that is killed. It is run by ``python -I -S``, and imports nothing of ours.

Arguments: the descriptors that it keeps, joined by commas, that of the socket first; the seconds
between SIGTERM and SIGKILL; a directory to remove when ``mq9 exec`` is gone, or nothing; the
command. Lines from the socket: an instant of the monotonic clock until which the lease is held, or
``end``. The line back: the exit code, negative for a signal, and why the guard ended the command.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # typing takes longer to load than this runs
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # of the group, which it is in
_CHANGED = (*_IGNORED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)
_PR_SET_PDEATHSIG = 1
_NOT_RUNNABLE, _NOT_FOUND = 126, 127  # as shells report them


def main() -> None:
    """Run the command to its end, and end its process group."""
    descriptors = [int(one) for one in sys.argv[1].split(",")]
    grace, directory, command = float(sys.argv[2]), sys.argv[3], sys.argv[4:]
    for one in descriptors:
        os.set_inheritable(one, False)
    control = socket.socket(fileno=descriptors[0])
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    pid = _start(command)
    _leave_streams()
    code, reason = _watch(pid, control, woken, grace)
    with contextlib.suppress(OSError):
        control.sendall(f"{code} {reason}\n".encode())
    if reason == "gone" and directory:
        _remove(directory)
    os.killpg(0, signal.SIGKILL)  # whatever the command has left behind, and this


def _start(command: list[str]) -> int:
    """Start the command, which on Linux dies with the guard."""
    die_with_guard = _death_signal()
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    for number in _CHANGED:
        signal.signal(number, signal.SIG_DFL)
    die_with_guard()
    if os.getppid() != guard:
        os._exit(1)
    code = _NOT_RUNNABLE
    try:
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    except FileNotFoundError as error:
        code = _NOT_FOUND
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(code)


def _death_signal() -> Callable[[], object]:
    """Return a function that has the system kill the calling process when its parent dies."""
    if sys.platform != "linux":
        return lambda: None
    try:
        import ctypes  # noqa: PLC0415  # may be missing

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return lambda: None
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _leave_streams() -> None:
    """Let go of the command's streams, so that they end with it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def _watch(pid: int, control: socket.socket, woken: int, grace: float) -> tuple[int, str]:
    """Wait for the end of the command; return its exit code, and why it was ended, if it was."""
    held_until = kill_at = float("inf")
    reason, received = "", b""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        now = time.monotonic()
        if ended:
            return os.waitstatus_to_exitcode(status), reason
        if now >= kill_at:
            return -signal.SIGKILL, reason
        if not reason and now >= held_until:
            reason = "lease"
        if reason and kill_at == float("inf"):
            os.killpg(0, signal.SIGTERM)
            kill_at = now + grace
        next_at = min(kill_at, float("inf") if reason else held_until)
        wait = None if next_at == float("inf") else max(next_at - now, 0)
        sources: list[Any] = [woken] if reason == "gone" else [woken, control]
        ready, _, _ = select.select(sources, [], [], wait)
        if woken in ready:
            os.read(woken, 4_096)
        if control in ready:
            data = control.recv(4_096)
            *lines, received = (received + data).split(b"\n")
            for line in lines:
                if line == b"end":
                    reason = reason or "told"
                else:
                    held_until = float(line)
            if not data:
                reason = "gone"


def _remove(directory: str) -> None:
    """Remove a directory of files."""
    with contextlib.suppress(OSError):
        for one in os.listdir(directory):  # noqa: PTH208  # pathlib takes long to load
            os.unlink(os.path.join(directory, one))  # noqa: PTH108, PTH118
        os.rmdir(directory)  # noqa: PTH106


if __name__ == "__main__":
    main()
