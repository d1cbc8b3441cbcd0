"""``mq9 cluster``: show, compare and copy the state of a cluster."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mq9.cli import needing
from mq9.cli.output import Table, count
from mq9.cli.program import NOTHING_THERE, CommandCall, new_app, register
from mq9.clock import SystemClock
from mq9.errors import InvalidRequest

if TYPE_CHECKING:
    from mq9.cluster.operator import Operator
    from mq9.cluster.replica import Snapshot

_STATUS_S = 1.0
_DIFFER = 1

app = new_app(help="Manage a cluster and its gateways.")


@asynccontextmanager
async def _operating(call: CommandCall) -> AsyncIterator[Operator]:
    with needing("cluster", "cluster: it"):
        from mq9.cluster.operator import operating  # noqa: PLC0415  # loaded late, for a quick start

    name = f"operator-{secrets.token_hex(6)}"
    async with operating(call.full_url, SystemClock(), name, call.timeout) as operator:
        yield operator


async def status(call: CommandCall) -> int:
    """Show how far each gateway is behind the log."""
    async with _operating(call) as operator:
        last = await operator.last()
        gateways = await operator.status(min(_STATUS_S, call.timeout))
    if not gateways:
        call.out.warn(_NO_GATEWAY)
    rows = [
        (
            one["name"],
            "yes" if one["serving"] else "no",
            str(one["applied"]),
            str(max(0, last - one["applied"])),
            str(one["requests"]),
            one["version"],
        )
        for one in gateways
    ]
    columns = ("gateway", "serves", "applied", "behind", "requests", "version")
    call.out.show({"last": last, "gateways": gateways}, Table(columns, rows))
    return 0 if gateways else NOTHING_THERE


async def verify(call: CommandCall) -> int:
    """Compare the states of all gateways."""
    async with _operating(call) as operator:
        with call.out.working("the gateways compute their digests"):
            found = await operator.verify(call.timeout)
    if not found:
        call.out.warn(_NO_GATEWAY)
    digests = {one["digest"] for one in found}
    are_equal = len(digests) == 1 and None not in digests
    rows = [
        (
            one["name"],
            "-" if one["sequence"] is None else str(one["sequence"]),
            one["digest"] or _SILENT,
        )
        for one in found
    ]
    call.out.show({"equal": are_equal, "gateways": found}, Table(_DIGESTS, rows))
    if not found:
        return NOTHING_THERE
    return 0 if are_equal else _DIFFER


_DIGESTS = ("gateway", "record", "digest")
_NO_GATEWAY = "no gateway answers: start one with `mq9 serve --cluster`"
_SILENT = "no answer yet"


async def snapshot(call: CommandCall) -> int:
    """Store a snapshot of the state, for new gateways."""
    return await _show_taken(call, "a gateway stores", lambda operator: operator.snapshot())


async def import_(
    call: CommandCall, *, file: Path = typer.Argument(..., help="The file. No program may use it.")
) -> int:
    """Import an mq9 file into an empty cluster."""
    async with _operating(call) as operator:
        with call.out.working(f"importing {file} as a snapshot"):
            taken, digest = await operator.import_file(file)
    text = f"{_described(taken)}\nDigest, as `mq9 cluster verify` prints it: {digest}"
    call.out.show({**taken._asdict(), "digest": digest}, text)
    return 0


async def export(
    call: CommandCall, *, file: Path = typer.Argument(..., help="The new file.")
) -> int:
    """Write the newest snapshot into a new file."""
    return await _show_taken(
        call, f"writing {file} from", lambda operator: operator.export_file(file)
    )


async def _show_taken(
    call: CommandCall, doing: str, take: Callable[[Operator], Awaitable[Snapshot]]
) -> int:
    async with _operating(call) as operator:
        with call.out.working(f"{doing} a snapshot"):
            taken = await take(operator)
    call.out.show(taken._asdict(), _described(taken))
    return 0


def _described(taken: Snapshot) -> str:
    return f"a snapshot of {count(taken.bytes, 'byte')}, up to record {taken.sequence}"


async def reset(
    call: CommandCall,
    *,
    yes: bool = typer.Option(False, "--yes", help="Confirm: all mail of the cluster is removed."),
) -> int:
    """Remove the log and its snapshots, for a new start."""
    if not yes:
        raise InvalidRequest(
            "reset: this removes all mail of the cluster. To keep it, first run `mq9 cluster "
            "export FILE`. Confirm with --yes"
        )
    async with _operating(call) as operator:
        await operator.reset()
    call.out.show({"reset": True}, "the cluster is empty; start gateways, or import a file")
    return 0


for _command in (status, verify, snapshot, import_, export, reset):
    register(app, _command.__name__.rstrip("_"), _command)
