"""``mq9-mcp doctor``: is everything as it should be for the hosts of this user."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import Any

from mcp import Client, StdioServerParameters

from mcp_server.hosts import HOSTS, Host, Machine
from mcp_server.install import PROGRAM, find_command
from mq9 import Mq9Client, Mq9Error
from mq9.cli.call import Call
from mq9.cli.doctor import examine, report
from mq9.cli.findings import Finding, ok, problem, warning
from mq9.errors import InvalidRequest
from mq9.transport.open import VARIABLE, shown_url

_PATIENCE_S = 20.0


async def doctor(call: Call) -> int:
    """Check versions, names, the broker, and what each host has been told of this server.

    Exits with 0 when there is no problem, and with 1 when there is one; warnings are no problems.
    """
    machine = Machine.here()
    findings = await examine(call, ["mcp"])
    findings.append(_command(machine))
    started: dict[str, str] = {}  # which host starts the server as which agent
    for host in HOSTS.values():
        findings += await _host(host, machine, started)
    return report(call, findings)


def _command(machine: Machine) -> Finding:
    try:
        return ok("command", str(find_command(machine)))
    except InvalidRequest as error:
        return problem("command", str(error), "install this package with its extra mcp")


async def _host(host: Host, machine: Machine, started: dict[str, str]) -> list[Finding]:
    """Look whether a host starts this server, and start it as the host would."""
    path = host.file(machine)
    advice = f"{PROGRAM} install {host.name}"
    try:
        servers = json.loads(path.read_text("utf-8-sig") or "{}").get(host.servers_key, {})
        ours = [entry for entry in servers.values() if _is_ours(entry)]
    except FileNotFoundError:
        return [ok(host.name, f"has no {path}; to use it there: {advice}")]
    except (OSError, ValueError, AttributeError) as error:
        return [warning(host.name, f"{path} cannot be read: {error}", "look at it")]
    if not ours:
        return [ok(host.name, f"does not start this server; to have it do so: {advice}")]
    return [await _entry(host.name, entry, machine, started, advice) for entry in ours]


async def _entry(
    name: str, entry: dict[str, Any], machine: Machine, started: dict[str, str], advice: str
) -> Finding:
    command, arguments = entry["command"], entry.get("args", [])
    agent = _agent(arguments)
    other = started.setdefault(agent, name)
    given = entry.get("env", {})
    environment = {key: one for key, one in machine.environment.items() if key != VARIABLE} | given
    try:
        server = StdioServerParameters(command=command, args=arguments, env=environment)
        async with asyncio.timeout(_PATIENCE_S), Client(server) as client:
            count = len((await client.list_tools()).tools)
    except Exception as error:  # noqa: BLE001  # whatever keeps it from starting
        line = shlex.join([command, *map(str, arguments)])
        reason = f"{type(error).__name__}: {error}"
        return problem(name, f"cannot start the server by `{line}` ({reason})", advice)
    url = given.get(VARIABLE)
    text = f"starts this server as {agent}, with {count} tools, on "
    text += "the file of this user" if url is None else shown_url(url)
    if url is not None:
        try:
            async with Mq9Client(url, reconnect_attempts=0):
                pass
        except Mq9Error as error:
            return problem(name, f"{text}: {error}", f"start that, or {advice} --server URL")
    if other != name:
        return warning(name, f"{text}; so does {other}", "give each a name with --agent")
    if machine.environment.get(VARIABLE, url) != url:
        return warning(
            name,
            f"{text}; {VARIABLE} is set here, so programs started here use another broker",
            f"{advice} --server URL",
        )
    return ok(name, text)


def _is_ours(entry: Any) -> bool:
    command = entry.get("command") if isinstance(entry, dict) else None
    # A path of another system than this one is split by hand.
    return isinstance(command, str) and command.replace("\\", "/").rpartition("/")[2] in {
        PROGRAM,
        f"{PROGRAM}.exe",
    }


def _agent(arguments: list[str]) -> str:
    if "--agent" in arguments[:-1]:
        return str(arguments[arguments.index("--agent") + 1])
    return "nobody that is named"
