"""``mq9 cluster``: looks at the gateways of a cluster, and begins one with a file."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mq9.cli.call import NOTHING_THERE, Call, register
from mq9.cli.output import Table, count
from mq9.cli.program import new_app
from mq9.clock import SystemClock

if TYPE_CHECKING:
    from mq9.cluster.operator import Operator
    from mq9.cluster.replica import Snapshot

_STATUS_S = 1.0
_DIFFER = 1

app = new_app(help="Look at the gateways of a cluster, and begin one with a file.")


@asynccontextmanager
async def _operating(call: Call) -> AsyncIterator[Operator]:
    from mq9.cluster.operator import operating  # noqa: PLC0415  # not before it is used

    name = f"operator-{secrets.token_hex(6)}"
    async with operating(call.full_url, SystemClock(), name) as operator:
        yield operator


async def status(call: Call) -> int:
    """Say how each gateway does, and how far it is behind the log."""
    async with _operating(call) as operator:
        last = await operator.last()
        gateways = await operator.status(min(_STATUS_S, call.timeout))
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


async def verify(call: Call) -> int:
    """Have every gateway digest its state at the same place of the log, and compare."""
    async with _operating(call) as operator:
        found = await operator.verify(call.timeout)
    digests = {one["digest"] for one in found}
    rows = [(one["name"], str(one["sequence"]), one["digest"]) for one in found]
    call.out.show({"equal": len(digests) == 1, "gateways": found}, Table(_DIGESTS, rows))
    if not found:
        return NOTHING_THERE
    return 0 if len(digests) == 1 else _DIFFER


_DIGESTS = ("gateway", "record", "digest")


async def snapshot(call: Call) -> int:
    """Have a gateway store a snapshot of the state, from which newcomers start."""
    async with _operating(call) as operator:
        _tell(call, await operator.snapshot())
    return 0


async def import_(
    call: Call, *, file: Annotated[Path, typer.Argument(help="The file, which nobody uses.")]
) -> int:
    """Begin a cluster, which has no log yet, with what a file holds."""
    async with _operating(call) as operator:
        _tell(call, await operator.import_file(file))
    return 0


async def export(
    call: Call, *, file: Annotated[Path, typer.Argument(help="The file, which is made.")]
) -> int:
    """Write what the newest snapshot holds into a new file."""
    async with _operating(call) as operator:
        _tell(call, await operator.export_file(file))
    return 0


def _tell(call: Call, taken: Snapshot) -> None:
    told: dict[str, Any] = taken._asdict()
    call.out.show(
        told, f"a snapshot of {count(taken.bytes, 'byte')}, up to record {taken.sequence}"
    )


for _command in (status, verify, snapshot, import_, export):
    register(app, _command.__name__.rstrip("_"), _command)
