"""``mq9 doctor``: is everything as it should be, and what to do where it is not."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mq9.cli import shadows, surroundings
from mq9.cli.call import Call
from mq9.cli.findings import OK, PROBLEM, Finding, ok, problem, warning
from mq9.cli.output import count, one_line
from mq9.client.client import Mq9Client
from mq9.errors import Mq9Error, Unauthorized, Unreachable, UnusableFile
from mq9.transport.open import file_of

_ROOM_S = 60  # how long a mailbox lives when what follows fails
_GROUP = "doctor"


async def doctor(
    call: Call,
    *,
    port: Annotated[
        int,
        typer.Option(envvar="MQ9_PORT", min=1, max=65535, help="Port that `mq9 serve` would use."),
    ] = 4222,
    admin_port: Annotated[
        int,
        typer.Option(
            envvar="MQ9_ADMIN_PORT", min=1, max=65535, help="Port of its metrics and health."
        ),
    ] = 9090,
) -> int:
    """Check versions, names, the broker, a round trip, the file and the ports.

    Exits with 0 when there is no problem, and with 1 when there is one; warnings are no problems.
    """
    findings = await examine(call)
    findings.append(surroundings.port("port", port, "--port"))
    findings.append(surroundings.port("admin port", admin_port, "--admin-port"))
    return report(call, findings)


async def examine(call: Call, packages: Sequence[str] = ()) -> list[Finding]:
    """Look at what every program of ours needs: versions, names, the broker and its file.

    Args:
        call: Which broker.
        packages: What has to be installed, beside what mq9 itself needs.
    """
    findings = [
        *surroundings.versions(packages),
        *shadows.look(sys.path, Path.cwd()),
        *_url(call),
    ]
    broker = await _broker(call)
    findings += broker
    path = file_of(call.full_url)
    if path is not None:
        usable = all(one.state == OK for one in broker)
        findings += surroundings.file(path, usable=usable)
    return findings


def report(call: Call, findings: list[Finding]) -> int:
    """Print what was found, and return the exit code."""
    problems = sum(one.state == PROBLEM for one in findings)
    document = {"ok": not problems, "checks": [dataclasses.asdict(one) for one in findings]}
    call.out.show(document, *map(_line, findings), _verdict(findings, problems))
    return 1 if problems else 0


def _line(finding: Finding) -> str:
    line = f"{finding.state:<8} {finding.name}: {one_line(finding.text)}"
    return f"{line}\n         -> {one_line(finding.advice)}" if finding.advice else line


def _verdict(findings: list[Finding], problems: int) -> str:
    warnings = len(findings) - problems - sum(one.state == OK for one in findings)
    if not problems and not warnings:
        return "all is well"
    return f"{count(problems, 'problem')}, {count(warnings, 'warning')}"


def _url(call: Call) -> list[Finding]:
    """Say which broker is meant, and whether others can be meant by that."""
    if call.is_in_memory:
        return [
            warning("url", f"{call.shown_url} is this process's own", "name a file or a server")
        ]
    return [ok("url", call.shown_url)]


async def _broker(call: Call) -> list[Finding]:
    """Connect, and send a message round."""
    try:
        async with call.client() as client:
            return [ok("broker", "answers and lets us in"), await _round_trip(client)]
    except Unauthorized as error:
        return [
            problem(
                "broker",
                str(error),
                "check the user or token in --url or MQ9_SERVER",
            )
        ]
    except UnusableFile as error:
        return [problem("broker", str(error), "name another file, or restore this one")]
    except Unreachable as error:
        return [problem("broker", str(error), "start it, or name another with --url")]
    except Mq9Error as error:
        return [problem("broker", str(error), "see what the message says")]


async def _round_trip(client: Mq9Client) -> Finding:
    """Create a mailbox, send, fetch, ack and drop it again, and say how long that took."""
    start = time.perf_counter()
    step = "create"
    try:
        inbox = await client.mailbox_create(prefix="doctor", ttl=_ROOM_S)
        step = "send"
        sent = await client.send(inbox, "ping")
        step = "fetch"
        fetched = await client.fetch(inbox, group_name=_GROUP, deliver="earliest")
        if [(one.msg_id, one.payload) for one in fetched] != [(sent, b"ping")]:
            return problem("round trip", "what was sent did not come back", "see the broker's log")
        step = "ack"
        await client.ack(inbox, _GROUP, sent)
        step = "drop"
        await client.mailbox_drop(inbox)
    except Mq9Error as error:
        return problem("round trip", f"{step}: {error}", "see the broker's log")
    took = (time.perf_counter() - start) * 1000
    return ok("round trip", f"create, send, fetch, ack and drop took {took:.1f} ms")
