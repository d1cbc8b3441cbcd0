"""``mq9-mcp doctor``: is everything as it should be for the hosts of this user."""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_server.hosts.install import PROGRAM, find_command, without_credentials
from mcp_server.hosts.known import HOSTS, Host, Scope
from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mcp_server.hosts.project_launch import is_module, is_program, own_launch
from mcp_server.settings import AUTO
from mq9 import Mq9Client, Mq9Error
from mq9.cli.call import Call
from mq9.cli.doctor import examine, report
from mq9.cli.findings import Finding, ok, problem, warning
from mq9.errors import InvalidRequest
from mq9.http.loopback import is_loopback
from mq9.transport import servers
from mq9.transport.open import VARIABLE, default_file, file_of, shown_url

_PATIENCE_S = 20.0
_NOWHERE = "memory://doctor"
_TAIL_LINES = 3
_TAIL_BYTES = 2_000
_HERE = "programs started here"


@dataclass(frozen=True, slots=True)
class _Use:
    """That a host starts this server.

    Attributes:
        host: Which one.
        scope: Whose configuration says so.
        launch: What it runs.
    """

    host: Host
    scope: Scope
    launch: Launch

    @property
    def name(self) -> str:
        return self.host.name if self.scope == "user" else f"{self.host.name} (project)"

    @property
    def advice(self) -> str:
        project = " --project" if self.scope == "project" else ""
        return f"{PROGRAM} install {self.host.name}{project}"

    @property
    def agent(self) -> str:
        named = self.launch.option("--agent") or self.launch.environment.get("MQ9_AGENT")
        return named or "nobody that is named"

    @property
    def is_shared(self) -> bool:
        """Whether it would be the same agent in another host."""
        return self.agent != AUTO

    @property
    def given(self) -> str | None:
        """The broker's URL as the entry says it; None where it leaves that to others."""
        return self.launch.option("--server") or self.launch.environment.get(VARIABLE)

    def url(self, machine: Machine) -> str | None:
        given = self.given
        if given is None or self.host.folder is None:
            return given
        return given.replace(self.host.folder, machine.project.as_posix())

    @property
    def is_relative(self) -> bool:
        """Whether its broker is another one in each directory that the host starts it in."""
        prefix, _, path = (self.given or "").partition("sqlite:///")
        return self.scope == "user" and not prefix and bool(path) and not Path(path).is_absolute()


class _NotStarted(Exception):
    """A host could not start the server; why."""


async def doctor(call: Call) -> int:
    """Check versions, names, the broker, what each host was told of this server, and who meets.

    Exits with 0 when there is no problem, and with 1 when there is one; warnings are no problems.
    """
    machine = Machine.here()
    findings = await examine(call, ["mcp"])
    findings.append(_command(machine))
    uses: list[_Use] = []
    for host in HOSTS.values():
        for scope in get_args(Scope):
            if scope == "user" or host.project_files:
                found, looked_at = _look(host, scope, machine)
                uses += found
                findings += looked_at
    meet: dict[str, str] = {}
    for use in uses:
        try:
            findings.append(await _try(use, machine))
        except _NotStarted as error:
            findings.append(problem(use.name, str(error), use.advice))
        else:
            meet[use.name] = _broker(use.url(machine))
    findings += _agents(uses)
    findings += meeting({**meet, _HERE: _broker(call.full_url)})
    return report(call, findings)


def meeting(brokers: Mapping[str, str]) -> list[Finding]:
    """Say who meets whom.

    Args:
        brokers: By the name of who uses it, a file or server, always spelled alike.
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


def _command(machine: Machine) -> Finding:
    try:
        return ok("command", str(find_command(machine)))
    except InvalidRequest as error:
        return problem("command", str(error), "install this package with its extra mcp")


def _look(host: Host, scope: Scope, machine: Machine) -> tuple[list[_Use], list[Finding]]:
    """Find where a host's configuration starts this server."""
    path = host.file(machine, scope)
    advice = f"{PROGRAM} install {host.name}"
    try:
        text = path.read_text("utf-8-sig")
        entries = _servers(host, text).values()
        ours = [one for entry in entries if (one := Launch.read(entry)) and _is_ours(one)]
    except FileNotFoundError:
        said = [ok(host.name, f"has no {path}; to use it there: {advice}")]
        return [], said if scope == "user" else []
    except (OSError, ValueError, InvalidRequest) as error:
        return [], [warning(host.name, f"{path} cannot be read: {error}", "look at it")]
    if not ours and scope == "user":
        return [], [ok(host.name, f"does not start this server; to have it do so: {advice}")]
    return [_Use(host, scope, one) for one in ours], []


def _servers(host: Host, text: str) -> Mapping[str, object]:
    """Return the entries of a host's configuration, which may be empty.

    Raises:
        InvalidRequest: It is no object, or what should list the servers is none.
    """
    document = host.text.parse(text) if text.strip() else {}
    if not isinstance(document, Mapping):
        raise InvalidRequest(f"it is {_kind(document)}, not an object")
    entries = document.get(host.servers_key, {})
    if not isinstance(entries, Mapping):
        raise InvalidRequest(f"{host.servers_key}: it is {_kind(entries)}, not an object")
    return entries


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


async def _try(use: _Use, machine: Machine) -> Finding:
    """Start the server as the host would, and look at its broker."""
    line = without_credentials(shlex.join([use.launch.command, *use.launch.arguments]))
    try:
        launch = own_launch(use.launch, machine) if use.scope == "project" else use.launch
    except InvalidRequest as error:
        advice = f"start {use.host.title} and let it ask"
        return warning(use.name, f"`{line}` was not started: {error}", advice)
    given = launch.environment
    environment = {key: one for key, one in machine.environment.items() if key != VARIABLE}
    url = use.url(machine)
    if VARIABLE in given and url is not None:
        given = {**given, VARIABLE: url}
    is_there = _is_there(url)
    arguments = list(launch.arguments)
    if not is_there:  # the server would make the file, and looking is not to
        given = {**given, VARIABLE: _NOWHERE}
    if launch.option("--server") is not None and url is not None:
        arguments += ["--server", url if is_there else _NOWHERE]  # the last one counts
    parameters = StdioServerParameters(
        command=launch.command,
        args=arguments,
        env={**environment, **given},
        cwd=machine.project if use.scope == "project" else None,
    )
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                Client(stdio_client(parameters, log)) as client,
            ):
                count = len((await client.list_tools()).tools)
        except Exception as error:  # whatever keeps it from starting
            reason = _last_lines(log.fileno()) or _innermost(error)
            said = f"cannot start the server by `{line}` ({reason})"
            raise _NotStarted(without_credentials(said)) from error
    agent = use.agent if use.is_shared else "an agent of each project"
    said = f"starts this server as {agent}, with {count} tools, on "
    if url is not None:
        said += shown_url(url) if is_there else f"{shown_url(url)}, not there yet"
        return await _on(url, use, machine, said, is_there=is_there)
    said += f"the file of its user, or on what {VARIABLE} says where it is started"
    if use.scope == "project":
        return ok(use.name, said)
    return warning(use.name, said, f"{use.advice}, which names the broker")


def _last_lines(file: int) -> str:
    """Return what a program has said at last; nothing where it was silent."""
    begin = max(0, os.lseek(file, 0, os.SEEK_END) - _TAIL_BYTES)
    os.lseek(file, begin, os.SEEK_SET)
    lines = os.read(file, _TAIL_BYTES).decode("utf-8", "replace").splitlines()
    if begin:
        del lines[:1]  # half a line could be half a URL, whose password is not known for one
    return "; ".join([one.strip() for one in lines if one.strip()][-_TAIL_LINES:])


def _innermost(error: BaseException) -> str:
    """Say what an error is, and not that it was one of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _is_there(url: str | None) -> bool:
    """Tell whether nobody has to make the broker's file; True for a URL that is none, too."""
    try:
        path = default_file() if url is None else file_of(url)
    except InvalidRequest:
        return True  # the server says what is wrong with it
    return path is None or path.exists()


async def _on(url: str, use: _Use, machine: Machine, text: str, *, is_there: bool) -> Finding:
    """Look at a host's broker."""
    try:
        if is_there:
            async with Mq9Client(url, reconnect_attempts=0):
                pass
    except Mq9Error as error:
        return problem(use.name, f"{text}: {error}", f"start that, or {use.advice} --server URL")
    if use.is_relative:
        return warning(use.name, f"{text}, another file wherever it is started", use.advice)
    path = file_of(url)
    if path is not None and any(map(path.is_relative_to, use.host.private_data(machine))):
        return warning(
            use.name,
            f"{text}, of which {use.host.title} sees a copy of its own",
            f"{use.advice} --server URL, with a file elsewhere",
        )
    return ok(use.name, text)


def _agents(uses: Sequence[_Use]) -> list[Finding]:
    """Say which hosts are one agent, and so share a mailbox."""
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


def _broker(url: str | None) -> str:
    """Spell alike what is the same broker."""
    try:
        path = default_file() if url is None else file_of(url)
    except InvalidRequest:
        path = None
    if path is not None:
        return str(path.resolve())
    try:
        members = servers.parse(url or "").members
    except InvalidRequest:
        return shown_url(url or "")
    return ",".join(
        replace(one, host="127.0.0.1" if is_loopback(one.host.lower()) else one.host.lower()).url
        for one in members
    )


def _is_ours(launch: Launch) -> bool:
    return is_program(launch) or is_module(launch)
