"""``mq9 doctor``: check the installation, the broker and the ports, and advise.

With ``--digest`` it prints the digest of a file's state. With ``--set-clock`` it sets the time of a
file.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from mq9.cli import diagnostics
from mq9.cli.diagnostics import OK, PROBLEM, Check, ok, problem, warning
from mq9.cli.output import count, when
from mq9.cli.program import CommandCall
from mq9.client.client import Mq9Client
from mq9.clock import SystemClock, duration
from mq9.errors import (
    Forbidden,
    InvalidRequest,
    Mq9Error,
    Unauthorized,
    Unreachable,
    UnusableFile,
)
from mq9.printable import one_line
from mq9.transport import servers
from mq9.transport.open import file_of, shown_url

_MAILBOX_TTL_S = 60  # if it cannot be dropped
_GROUP = "doctor"
_CLOCKS_APART_S = 5
_CALLER = re.compile(r"(?<=[?&]caller=)[^&]*")


async def doctor(
    call: CommandCall,
    *,
    port: int = typer.Option(
        4222, envvar="MQ9_PORT", min=1, max=65535, help="Port of `mq9 serve`."
    ),
    admin_port: int = typer.Option(
        9090, envvar="MQ9_ADMIN_PORT", min=1, max=65535, help="Port of its metrics and health."
    ),
    digest: str | None = typer.Option(
        None,
        metavar="FILE",
        help="Check nothing, and print the digest of the state in this file, given by "
        "path or URL. Files with equal digests have equal state.",
    ),
    set_clock: str | None = typer.Option(
        None,
        metavar="FILE",
        help="Check nothing, and set the time of this file to this machine's, with --yes.",
    ),
    yes: bool = typer.Option(False, "--yes", help="Do what --set-clock explains."),
) -> int:
    """Find out why something does not work.

    Exits with 0 when there is no problem, and with 1 when there is one; warnings do not count.
    """
    if digest is not None:
        return _show_digest(call, digest)
    if set_clock is not None:
        return _set_clock(call, _path_of("set-clock", set_clock), yes=yes)
    checks = await examine(call)
    checks.append(diagnostics.check_port("port", port, "--port"))
    checks.append(diagnostics.check_port("admin port", admin_port, "--admin-port"))
    return report(call, checks)


async def examine(call: CommandCall, packages: Sequence[str] = ()) -> list[Check]:
    """Check versions, names, the broker and its file, which all our programs need."""
    checks = [
        *diagnostics.check_versions(packages),
        *diagnostics.check_names(sys.path, Path.cwd()),
        warning("url", f"{call.shown_url} is private to this process", "name a file or a server")
        if call.is_in_memory
        else ok("url", call.shown_url),
    ]
    broker = await _broker(call)
    usable = all(one.state != PROBLEM for one in broker)
    path = file_of(call.full_url)
    if path is None:
        return [*checks, *broker, *([] if call.is_in_memory else await _versions(call.full_url))]
    of_file = diagnostics.check_file(path, usable=usable)
    if any(one.state == PROBLEM for one in of_file):  # the cause of the problem of the broker
        broker = [one for one in broker if one.state != PROBLEM]
    checks += [*broker, *of_file]
    if usable:
        checks.append(check_clock(path))
    return checks


async def _versions(url: str) -> list[Check]:
    """Compare the versions of the brokers that a URL names with ours."""
    try:
        members = servers.parse(url).members
    except InvalidRequest:
        return []
    looking = [asyncio.to_thread(diagnostics.check_server, one.host, one.port) for one in members]
    return [check for found in await asyncio.gather(*looking) for check in found]


def _show_digest(call: CommandCall, named: str) -> int:
    """Print the digest of a file's state, and its last entry."""
    from mq9.engine.state import digest, position  # noqa: PLC0415  # loaded late, for a quick start
    from mq9.storage import store  # noqa: PLC0415  # loaded late, for a quick start

    path = _path_of("digest", named)
    found, (applied, now_ms) = store.look_into(path, lambda one: (digest(one), position(one)))
    document = {"file": str(path), "digest": found, "applied": applied, "now_ms": now_ms}
    reached = f"after entry {applied}, {when(now_ms / 1000)}" if applied else "before any entry"
    call.out.show(document, found, reached)
    return 0


def _path_of(option: str, named: str) -> Path:
    path = file_of(named) if "://" in named else Path(named).expanduser().resolve()
    if path is None:
        raise InvalidRequest(f"{option}: {shown_url(named)} is not a file")
    return path


def report(call: CommandCall, checks: list[Check]) -> int:
    """Print the checks, and return the exit code."""
    problems = sum(one.state == PROBLEM for one in checks)
    document = {"ok": not problems, "checks": [dataclasses.asdict(one) for one in checks]}
    call.out.show(document, *map(_line, checks), _verdict(checks, problems))
    return 1 if problems else 0


def _line(check: Check) -> str:
    line = f"{check.state:<8} {check.name}: {one_line(check.text)}"
    return f"{line}\n         -> {one_line(check.advice)}" if check.advice else line


def _verdict(checks: list[Check], problems: int) -> str:
    warnings = len(checks) - problems - sum(one.state == OK for one in checks)
    if not problems and not warnings:
        return "all is well"
    return f"{count(problems, 'problem')}, {count(warnings, 'warning')}"


_ADVICE: dict[type[Mq9Error], str] = {
    Unauthorized: "check the user or token in --url or MQ9_SERVER",
    UnusableFile: "name another file, or restore this one",
    Unreachable: "start it, or name another with --url",
    Mq9Error: "see the message",
}


async def _broker(call: CommandCall) -> list[Check]:
    """Connect, and send a message to ourselves."""
    try:
        async with call.client() as client:
            answers = ok("broker", "answers, and accepts our credentials")
            is_remote = file_of(call.full_url) is None
            found = [answers, *await _round_trip(client, is_remote=is_remote)]
            if is_remote and not call.is_in_memory:
                found += [*await _identity(client), *await _other_names(call)]
            return found
    except Mq9Error as error:
        advice = next(text for kind, text in _ADVICE.items() if isinstance(error, kind))
        return [problem("broker", str(error), advice)]


async def _identity(client: Mq9Client) -> list[Check]:
    """Report as whom the broker knows this client."""
    try:
        who = await client.identity()
    except Mq9Error:  # a broker without this verb
        return []
    if who.agent is not None:
        return [ok("identity", f"the broker knows this client as {who.agent} ({who.role})")]
    if who.role is not None:
        return [ok("identity", f"the broker knows this client as an {who.role}")]
    text = "this client is anonymous: it can use every mailbox that belongs to no agent"
    return [ok("identity", text)]


async def _other_names(call: CommandCall) -> list[Check]:
    """Try whether NATS lets this client publish as another caller."""
    if _CALLER.search(call.full_url) is None:
        return []
    other = dataclasses.replace(
        call, url=_CALLER.sub(f"doctor-{secrets.token_hex(8)}", call.full_url)
    )
    try:
        async with other.client() as client:
            await client.identity()
    except Forbidden:
        return [ok("caller", "NATS refuses this client the names of other callers")]
    except Unauthorized:
        text = "NATS lets this client publish as every caller, and so be every agent"
        advice = "let its NATS user publish to $mq9.as.CALLER.AI.> only"
        return [problem("caller", text, advice)]
    return []


async def _round_trip(client: Mq9Client, *, is_remote: bool) -> list[Check]:
    """Create a mailbox, send, fetch, ack and drop it; return the time that took."""
    start = time.perf_counter()
    began = client.clock.now_ms() / 1000
    step = "create"
    try:
        inbox = await client.mailbox_create(prefix="doctor", ttl=_MAILBOX_TTL_S)
        step = "send"
        sent = await client.send(inbox, "ping")
        step = "fetch"
        fetched = await client.fetch(inbox, group_name=_GROUP, deliver="earliest")
        if [(one.msg_id, one.payload) for one in fetched] != [(sent, b"ping")]:
            text = "fetch did not return the message that was sent"
            return [problem("round trip", text, "see the broker's log")]
        step = "ack"
        await client.ack(inbox, _GROUP, sent)
        step = "drop"
        await client.mailbox_drop(inbox)
    except Mq9Error as error:
        return [problem("round trip", f"{step}: {error}", "see the broker's log")]
    took = (time.perf_counter() - start) * 1000
    found = [ok("round trip", f"create, send, fetch, ack and drop took {took:.1f} ms")]
    if is_remote:  # the time of a file has a check of its own
        found += _clocks(fetched[0].create_time, began, began + took / 1000)
    return found


def _clocks(there: float, began: float, ended: float) -> list[Check]:
    """Compare the broker's time of a message with the time of the send."""
    apart = there - (began if there < began else ended)
    if began - _CLOCKS_APART_S <= there <= ended + _CLOCKS_APART_S:
        return []
    where = "ahead of" if apart > 0 else "behind"
    text = f"the broker's clock is {duration(int(abs(apart) * 1000))} {where} this machine's"
    advice = "set both clocks by NTP; until then, times in messages are wrong by that"
    return [warning("clock", text, advice)]


_EFFECTS = {
    "ahead": "Every stored message stays. A TTL or delay that began in the future begins now. "
    "Leases keep their remaining time. Messages that expired in the meantime are gone.",
    "held": "Messages, mailboxes and registrations expire if their TTL has ended since then. All "
    "others stay. Leases end, and their messages are delivered again.",
}


def check_clock(path: Path) -> Check:
    """Compare the time of a broker's file with the machine's."""
    from mq9.storage import store  # noqa: PLC0415  # loaded late, for a quick start

    try:
        found = store.file_time(path, SystemClock().now_ms())
    except UnusableFile as error:
        return problem("clock", str(error), "see the message")
    if found.state is store.TimeState.RIGHT:
        return ok("clock", "the file and this machine agree")
    return problem(
        "clock",
        _difference(found),
        f"check this machine's clock, then run mq9 doctor --set-clock {path}",
    )


def _set_clock(call: CommandCall, path: Path, *, yes: bool) -> int:
    """Explain the effect of setting the time of a file, or set it; return the exit code."""
    from mq9.storage import store  # noqa: PLC0415  # loaded late, for a quick start

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
        call.out.show(document, f"{path}: the time is right; nothing was changed")
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
