"""``mq9-mcp doctor``: whether hosts can start the server, and reach the same broker with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from mcp_server.hosts.entry import PROGRAM, find_command
from mcp_server.hosts.host import Machine
from mcp_server.hosts.uses import (
    NotStarted,
    NotTried,
    Use,
    broker_of,
    count_tools,
    file_exists,
    find_uses,
)
from mq9 import Mq9Client, Mq9Error
from mq9.cli.call import Call
from mq9.cli.diagnostics import Check, ok, problem, warning
from mq9.cli.doctor import examine, report
from mq9.errors import InvalidRequest
from mq9.transport.open import VARIABLE, file_of, shown_url

_AT_ONCE = 4  # servers that are started
_HERE = "programs started here"


async def doctor(call: Call) -> int:
    """Check versions, names, the broker, what each host was told of this server, and who meets.

    Exits with 0 when there is no problem, and with 1 when there is one; warnings are no problems.
    """
    machine = Machine.here()
    checks = await examine(call, ["mcp"])
    checks.append(_command(machine))
    uses, of_others = find_uses(machine)
    checks += of_others
    slots = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        trying = [tasks.create_task(_try(use, machine, slots)) for use in uses]
    tried = [task.result() for task in trying]
    checks += [check for check, _ in tried]
    checks += _agents(uses)
    brokers = {
        use.name: broker_of(use.url(machine))
        for use, (_, starts) in zip(uses, tried, strict=True)
        if starts
    }
    checks += meeting({**brokers, _HERE: broker_of(call.full_url)})
    return report(call, checks)


def meeting(brokers: Mapping[str, str]) -> list[Check]:
    """Return which programs use the same broker; nothing where there is but one program.

    Args:
        brokers: By the name of a program, its file or server, always spelled alike.
    """
    if len(brokers) < 2:
        return []
    users: dict[str, list[str]] = {}
    for name, broker in brokers.items():
        users.setdefault(broker, []).append(name)
    if len(users) == 1:
        [(broker, names)] = users.items()
        return [ok("meeting", f"{' and '.join(names)} meet on {broker}")]
    groups = "; ".join(f"{' and '.join(names)} on {broker}" for broker, names in users.items())
    return [
        warning(
            "meeting",
            f"not all meet, so mail of some does not reach the others: {groups}",
            f"{PROGRAM} install HOST --server URL, with the same URL for each",
        )
    ]


def _command(machine: Machine) -> Check:
    try:
        return ok("command", str(find_command(machine)))
    except InvalidRequest as error:
        return problem("command", str(error), "install this package with its extra mcp")


async def _try(use: Use, machine: Machine, slots: asyncio.Semaphore) -> tuple[Check, bool]:
    """Return what is to be said of an entry, and whether the host can start the server by it."""
    try:
        async with slots:
            count = await count_tools(use, machine)
    except NotTried as error:
        return warning(use.name, str(error), f"start {use.host.title} and let it ask"), True
    except NotStarted as error:
        return problem(use.name, str(error), use.advice), False
    return await _started(use, machine, count), True


async def _started(use: Use, machine: Machine, count: int) -> Check:
    """Return what is to be said of a server that has started, and of its broker."""
    agent = use.agent if use.is_shared else "an agent of each project"
    said = f"starts this server as {agent}, with {count} tools, on "
    url = use.url(machine)
    if url is None:
        said += f"the file of its user, or on what {VARIABLE} says where it is started"
        if use.scope == "project":
            return ok(use.name, said)
        return warning(use.name, said, f"{use.advice}, which names the broker")
    if not file_exists(url):
        said += f"{shown_url(url)}, not there yet"
    else:
        said += shown_url(url)
        try:
            async with Mq9Client(url, reconnect_attempts=0):
                pass
        except Mq9Error as error:
            advice = f"start that, or {use.advice} --server URL"
            return problem(use.name, f"{said}: {error}", advice)
    return _place(use, machine, url, said)


def _place(use: Use, machine: Machine, url: str, said: str) -> Check:
    """Return whether the broker of a host is where others find it."""
    if use.has_relative_file:
        return warning(use.name, f"{said}, another file wherever it is started", use.advice)
    path = file_of(url)
    if path is not None and any(map(path.is_relative_to, use.host.private_data(machine))):
        return warning(
            use.name,
            f"{said}, of which {use.host.title} sees a copy of its own",
            f"{use.advice} --server URL, with a file elsewhere",
        )
    return ok(use.name, said)


def _agents(uses: Sequence[Use]) -> list[Check]:
    """Return which hosts are one agent, and so share a mailbox."""
    names: dict[str, list[str]] = {}
    for use in filter(lambda use: use.is_shared, uses):
        names.setdefault(use.agent, []).append(use.name)
    return [
        warning(
            "agents",
            f"{' and '.join(hosts)} are all {agent}, and share its mailbox",
            "give each a name with --agent",
        )
        for agent, hosts in names.items()
        if len({host.removesuffix(" (project)") for host in hosts}) > 1
    ]
