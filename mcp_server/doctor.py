"""``mq9-mcp doctor``: is everything as it should be for the hosts of this user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mcp_server.hosts import HOSTS, Host, Machine
from mcp_server.install import PROGRAM, find_command
from mq9.cli.call import Call
from mq9.cli.doctor import examine, report
from mq9.cli.findings import Finding, ok, problem, warning
from mq9.errors import InvalidRequest


async def doctor(call: Call) -> int:
    """Check versions, names, the broker, and what each host has been told of this server.

    Exits with 0 when there is no problem, and with 1 when there is one; warnings are no problems.
    """
    machine = Machine.here()
    findings = await examine(call, ["mcp"])
    findings.append(_command(machine))
    findings += [_host(host, machine) for host in HOSTS.values()]
    return report(call, findings)


def _command(machine: Machine) -> Finding:
    try:
        return ok("command", str(find_command(machine)))
    except InvalidRequest as error:
        return problem("command", str(error), "install this package with its extra mcp")


def _host(host: Host, machine: Machine) -> Finding:
    """Look whether a host starts this server, and whether what it would start is there."""
    path = host.file(machine)
    advice = f"{PROGRAM} install {host.name}"
    try:
        servers = json.loads(path.read_text("utf-8-sig") or "{}").get(host.servers_key, {})
        ours = {name: entry for name, entry in servers.items() if _is_ours(entry)}
    except FileNotFoundError:
        return ok(host.name, f"has no {path}; to use it there: {advice}")
    except (OSError, ValueError, AttributeError) as error:
        return warning(host.name, f"{path} cannot be read: {error}", "look at it")
    if not ours:
        return ok(host.name, f"does not start this server; to have it do so: {advice}")
    gone = [entry["command"] for entry in ours.values() if not Path(entry["command"]).is_file()]
    if gone:
        return problem(host.name, f"is to start {gone[0]}, which is not there", advice)
    agents = ", ".join(sorted(_agent(entry) for entry in ours.values()))
    return ok(host.name, f"starts this server, as {agents}")


def _is_ours(entry: Any) -> bool:
    command = entry.get("command") if isinstance(entry, dict) else None
    # A path of another system than this one is split by hand.
    return isinstance(command, str) and command.replace("\\", "/").rpartition("/")[2] in {
        PROGRAM,
        f"{PROGRAM}.exe",
    }


def _agent(entry: dict[str, Any]) -> str:
    arguments = entry.get("args")
    if isinstance(arguments, list) and "--agent" in arguments[:-1]:
        return str(arguments[arguments.index("--agent") + 1])
    return "nobody that is named"
