"""``mq9 doctor --set-clock``: set the time of a file right, which a wrong clock has moved."""

from __future__ import annotations

from pathlib import Path

from mq9.cli.call import Call
from mq9.cli.diagnostics import Check, ok, problem
from mq9.cli.output import when
from mq9.clock import SystemClock, duration
from mq9.errors import UnusableFile

_EFFECTS = {
    "ahead": "Every stored message stays. A TTL or delay that began in the future begins now. A "
    "lease runs for as long as it had left. What expired in the meantime is gone.",
    "held": "Messages, mailboxes and registrations expire if their TTL has ended since then. All "
    "others stay. Leases end, and their messages are delivered again.",
}


def check(path: Path) -> Check:
    """Compare the time of a broker's file with the machine's."""
    from mq9.storage import store  # noqa: PLC0415  # not before it is used

    try:
        found = store.file_time(path, SystemClock().now_ms())
    except UnusableFile as error:
        return problem("clock", str(error), "see what the message says")
    if found.state is store.TimeState.RIGHT:
        return ok("clock", "the file and this machine agree")
    return problem(
        "clock",
        _difference(found),
        f"check this machine's clock, then run mq9 doctor --set-clock {path}",
    )


def set_clock(call: Call, path: Path, *, yes: bool) -> int:
    """Say what setting the time of a file would do, or do it; the exit code."""
    from mq9.storage import store  # noqa: PLC0415  # not before it is used

    found = store.file_time(path, SystemClock().now_ms())
    state = found.state
    document = {
        "file": str(path),
        "state": state.value,
        "file_ms": found.file_ms,
        "machine_ms": found.machine_ms,
        "set": yes and state is not store.TimeState.RIGHT,
    }
    if state is store.TimeState.RIGHT:
        call.out.show(document, f"{path}: the time is right, and was left as it is")
        return 0
    lines = [f"{path}: {_difference(found)}", _EFFECTS[state.value]]
    if yes:
        store.set_file_time(path, found.machine_ms)
        lines.append(f"The time is {_shown(found.machine_ms)} now.")
    else:
        now = _shown(found.machine_ms)
        lines.append(f"Nothing was changed. If {now} is right, run this again with --yes.")
    call.out.show(document, *lines)
    return 0


def _difference(found: tuple[int, int]) -> str:
    file_ms, machine_ms = found
    apart = duration(abs(file_ms - machine_ms))
    if file_ms > machine_ms:
        return f"its time is {_shown(file_ms)}, {apart} ahead of this machine's"
    return f"its time is held at {_shown(file_ms)}, {apart} behind this machine's"


def _shown(instant_ms: int) -> str:
    return when(instant_ms / 1000)
