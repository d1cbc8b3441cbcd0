"""``mq9-mcp doctor``: whether hosts can start the server, and reach the same broker with it."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, get_args

import typer

from mcp_server.hosts.delivery_check import delivery_check, permission_check
from mcp_server.hosts.doctor_http import RemoteUse, check_mcp_port, check_remote
from mcp_server.hosts.entry import (
    DEFAULT_KEY,
    MODULE,
    PROGRAM,
    find_command,
    is_module,
    is_ours,
    without_credentials,
)
from mcp_server.hosts.host import Host, Launch, Machine, Scope
from mcp_server.hosts.known import HOSTS
from mcp_server.hosts.plan import UndoFile
from mcp_server.options import FOR_STDIO, flag, takes_value
from mcp_server.settings import AUTO
from mq9 import Forbidden, InvalidRequest, MailboxNotFound, Mq9Client, Mq9Error
from mq9.address import shown, slug
from mq9.cli.diagnostics import PROBLEM, Check, ok, problem, warning
from mq9.cli.doctor import examine, report
from mq9.cli.output import count
from mq9.cli.program import CommandCall
from mq9.http import is_loopback
from mq9.transport import servers
from mq9.transport.open import VARIABLE, default_file, file_of, shown_url
from mq9.version import VERSION

if TYPE_CHECKING:
    from mcp import StdioServerParameters


def name_of(host: Host, scope: Scope) -> str:
    """Return a host's name, and whether it is for a project only."""
    return host.name if scope == "user" else f"{host.name} (project)"


@dataclass(frozen=True, slots=True)
class Use:
    """An entry by which a host starts this server."""

    host: Host
    scope: Scope
    launch: Launch

    @property
    def name(self) -> str:
        """The host, and whether it is for a project only."""
        return name_of(self.host, self.scope)

    @property
    def advice(self) -> str:
        """The command that writes the entry anew."""
        project = " --project" if self.scope == "project" else ""
        return f"{PROGRAM} install {self.host.name}{project}"

    @property
    def agent(self) -> str:
        """The name of the agent that the host is."""
        named = self.launch.option("--agent") or self.launch.environment.get("MQ9_AGENT")
        return named or "nobody that is named"

    @property
    def is_shared(self) -> bool:
        """True where it would be the same agent in another host."""
        return self.agent != AUTO

    def url(self, machine: Machine) -> str | None:
        """Return the broker's URL; None where the entry does not name one."""
        given = self._given_url
        if given is None or self.host.folder is None:
            return given
        return given.replace(self.host.folder, machine.project.as_posix())

    @property
    def has_relative_file(self) -> bool:
        """True where its broker depends on the directory that the host starts it in."""
        prefix, _, path = (self._given_url or "").partition("sqlite:///")
        return self.scope == "user" and not prefix and bool(path) and not Path(path).is_absolute()

    @property
    def _given_url(self) -> str | None:
        return self.launch.option("--server") or self.launch.environment.get(VARIABLE)


def find_uses(machine: Machine) -> tuple[list[Use | RemoteUse], list[Check]]:
    """Look for this server in the configurations of all hosts."""
    uses: list[Use | RemoteUse] = []
    checks: list[Check] = []
    for host in HOSTS.values():
        for scope in get_args(Scope):
            # In the home directory, a project's file may be the user's.
            is_another = host.project_files and host.file(machine, scope) != host.file(machine)
            if scope == "user" or is_another:
                found, said = _look(host, scope, machine)
                uses += found
                checks += said
    return uses, checks


def broker_of(url: str | None) -> str:
    """Return what a broker's URL means, spelled alike for the same broker."""
    try:
        path = default_file() if url is None else file_of(url)
        if path is not None:
            return str(path.resolve())
        members = servers.parse(url or "").members
    except InvalidRequest:
        return shown_url(url or "")
    return ",".join(
        replace(one, host="127.0.0.1" if is_loopback(one.host.lower()) else one.host.lower()).url
        for one in members
    )


def _look(host: Host, scope: Scope, machine: Machine) -> tuple[list[Use | RemoteUse], list[Check]]:
    path = host.file(machine, scope)
    advice = f"{PROGRAM} install {host.name}"
    try:
        text = path.read_text("utf-8-sig")
        entries = _servers(host, text)
        ours = [one for entry in entries.values() if (one := Launch.read(entry)) and is_ours(one)]
        remote = _remote_uses(host, scope, path, entries)
    except FileNotFoundError:
        said = [ok(host.name, f"has no {path}; to use it there: {advice}")]
        return [], said if scope == "user" else []
    except (OSError, ValueError, InvalidRequest) as error:
        return [], [warning(host.name, f"{path} cannot be read: {error}", "look at it")]
    if not ours and not remote and scope == "user":
        return [], [ok(host.name, f"does not start this server; to have it do so: {advice}")]
    return [*(Use(host, scope, one) for one in ours), *remote], []


def _remote_uses(
    host: Host, scope: Scope, path: Path, entries: Mapping[str, object]
) -> list[RemoteUse]:
    """Return the entries over HTTP that are called as ours is, or that we have written."""
    form = host.remote
    if form is None:
        return []
    ours = {DEFAULT_KEY, *UndoFile.read(path).before}
    return [
        RemoteUse(name_of(host, scope), host, one)
        for key, entry in entries.items()
        if key in ours and Launch.read(entry) is None and (one := form.read(entry))
    ]


def _servers(host: Host, text: str) -> Mapping[str, object]:
    """Return the entries of a host's configuration, which may be empty."""
    document = host.text.parse(text)
    if not isinstance(document, Mapping):
        raise InvalidRequest(f"it is {_kind(document)}, not an object")
    entries = document.get(host.servers_key, {})
    if not isinstance(entries, Mapping):
        raise InvalidRequest(f"{host.servers_key}: it is {_kind(entries)}, not an object")
    return entries


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


_START_TIMEOUT_S = 20.0
_IN_MEMORY = "memory://doctor"
_TAIL_LINES = 3
_TAIL_BYTES = 2_000


class NotStarted(Exception):
    """The server did not start; the text says why, without passwords."""


class NotTried(Exception):
    """The server was not started, as a project names what could be another program."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The server as a host sees it."""

    tools: int
    version: str | None  # None where it does not say so


async def look_at(use: Use, machine: Machine) -> Seen:
    """Start the server as a host would; a missing file is not made."""
    line = without_credentials(shlex.join([use.launch.command, *use.launch.arguments]))
    try:
        launch = own_launch(use.launch, machine) if use.scope == "project" else use.launch
    except InvalidRequest as error:
        raise NotTried(f"`{line}` was not started: {error}") from error
    from mcp import Client  # noqa: PLC0415  # as above
    from mcp.client.stdio import stdio_client  # noqa: PLC0415

    parameters = _parameters(use, launch, machine)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        try:
            async with (
                asyncio.timeout(_START_TIMEOUT_S),
                Client(stdio_client(parameters, log)) as client,
            ):
                tools = len((await client.list_tools()).tools)
                server = client.server_info
                return Seen(tools, None if server is None else server.version)
        except Exception as error:  # whatever keeps it from starting
            reason = _last_lines(log) or _innermost(error)
            said = f"cannot start the server by `{line}` ({reason})"
            raise NotStarted(without_credentials(said)) from error


def file_exists(url: str | None) -> bool:
    """Tell whether nobody has to make the broker's file; True for a URL that is none, too."""
    try:
        path = default_file() if url is None else file_of(url)
    except InvalidRequest:
        return True  # the server says what is wrong with it
    return path is None or path.exists()


def _parameters(use: Use, launch: Launch, machine: Machine) -> StdioServerParameters:
    """Return how to start the server, with the broker that it would have, or one in memory."""
    from mcp import StdioServerParameters  # noqa: PLC0415  # as above

    url = use.url(machine)
    environment = {key: one for key, one in machine.environment.items() if key != VARIABLE}
    environment |= launch.environment
    arguments = list(launch.arguments)
    if VARIABLE in launch.environment and url is not None:
        environment[VARIABLE] = url
    if not file_exists(url):  # the server would make it
        url = environment[VARIABLE] = _IN_MEMORY
    if launch.option("--server") is not None and url is not None:
        arguments += ["--server", url]  # the last one counts
    return StdioServerParameters(
        command=launch.command,
        args=arguments,
        env=environment,
        cwd=machine.project if use.scope == "project" else None,
    )


def _last_lines(log: IO[str]) -> str:
    """Return the last lines that a program has written; nothing where it was silent."""
    file = log.fileno()
    begin = max(0, os.lseek(file, 0, os.SEEK_END) - _TAIL_BYTES)
    os.lseek(file, begin, os.SEEK_SET)
    lines = os.read(file, _TAIL_BYTES).decode("utf-8", "replace").splitlines()
    if begin:
        del lines[:1]  # half a line could be half a URL, whose password is not known for one
    return "; ".join([one.strip() for one in lines if one.strip()][-_TAIL_LINES:])


def _innermost(error: BaseException) -> str:
    """Return what an error says, not that it was one of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


_VARIABLES = frozenset({VARIABLE, "MQ9_AGENT"})
_TAKES_VALUE = {flag(name): takes_value(name) for name in FOR_STDIO}


def own_launch(launch: Launch, machine: Machine) -> Launch:
    """Return what runs this installation's program as a project's entry would."""
    own = find_command(machine)
    found = _find(launch.command, machine)
    arguments = launch.arguments
    if is_module(launch):
        # A link is another environment, and so is not followed.
        is_own = found is not None and os.path.abspath(found) == os.path.abspath(sys.executable)  # noqa: PTH100
        arguments = arguments[len(MODULE) :]
    else:
        is_own = found is not None and _is_same(found, own)
    if not is_own:
        raise InvalidRequest(f"a project names the program, and it is not {own}")
    for name in launch.environment:
        if name not in _VARIABLES:
            raise InvalidRequest(f"a project sets the variable {shown(name)}")
    _check(arguments)
    return Launch(str(own), arguments, launch.environment)


def _check(arguments: tuple[str, ...]) -> None:
    """Refuse commands, such as install, and what is not for standard input and output."""
    rest = iter(arguments)
    for one in rest:
        name, equals, _ = one.partition("=")
        has_value = _TAKES_VALUE.get(name)
        if has_value is None or (equals and not has_value):
            raise InvalidRequest(f"a project gives {shown(one)}, which no host needs")
        if has_value and not equals:
            next(rest, None)


def _find(command: str, machine: Machine) -> Path | None:
    if "/" in command or "\\" in command:
        return machine.project / command
    return machine.program(command.removesuffix(".exe"))


def _is_same(found: Path, own: Path) -> bool:
    try:
        return found.samefile(own)
    except (OSError, ValueError):
        return False


_AT_ONCE = 4  # servers that are started
_HERE = "programs started here"


async def doctor(
    call: CommandCall,
    *,
    port: int = typer.Option(
        8765, envvar="MQ9_MCP_PORT", min=1, max=65535, help="Port that --http would use."
    ),
) -> int:
    """Check versions, names, the broker and the hosts' entries, and show which hosts meet.

    Exits with 0 when there is no problem, and with 1 when there is one; warnings do not count.
    """
    machine = Machine.here()
    checks = await examine(call, ["mcp"])
    here = broker_of(call.full_url)
    told = {here} if any(one.state == PROBLEM for one in checks) else set()
    checks.append(_command(machine))
    found, of_others = find_uses(machine)
    checks += of_others
    uses = [one for one in found if isinstance(one, Use)]
    slots = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        trying = [tasks.create_task(_try(use, machine, slots, told)) for use in uses]
        remote = [
            tasks.create_task(check_remote(one, machine))
            for one in found
            if isinstance(one, RemoteUse)
        ]
        of_port = tasks.create_task(check_mcp_port(port))
    tried = [task.result() for task in trying]
    brokers = {
        use.name: broker_of(use.url(machine))
        for use, (_, starts) in zip(uses, tried, strict=True)
        if starts
    }
    causes = [
        (brokers.get(check.name, check.text), check)  # URLs of one broker may differ in spelling
        for check in (*(check for check, _ in tried), *(task.result() for task in remote))
    ]
    checks += once(causes)
    for use in uses:
        for check_hooks in (delivery_check, permission_check):
            check = check_hooks(
                use.host.name, use.scope, machine, agent=use.agent, launch=use.launch
            )
            checks += [check] if check is not None else []
    checks += _agents(uses)
    checks += meeting({**brokers, _HERE: here})
    return report(call, [*checks, of_port.result()])


def once(causes: Sequence[tuple[str, Check]]) -> list[Check]:
    """Return checks with their causes, those of problems that have the same cause as one."""
    found: list[Check] = []
    same: dict[str, list[Check]] = {}
    for cause, check in causes:
        if check.state == PROBLEM:
            same.setdefault(cause, []).append(check)
        else:
            found.append(check)
    for first, *others in same.values():
        names = " and ".join(one.name for one in others)
        found.append(replace(first, text=f"{first.text}; the same for {names}") if names else first)
    return found


def meeting(brokers: Mapping[str, str]) -> list[Check]:
    """Return which programs use the same broker; nothing where there is but one program."""
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


async def _try(
    use: Use, machine: Machine, slots: asyncio.Semaphore, told: set[str]
) -> tuple[Check, bool]:
    """Return the check of an entry, and whether the host can start the server by it."""
    try:
        async with slots:
            seen = await look_at(use, machine)
    except NotTried as error:
        return warning(use.name, str(error), f"start {use.host.title} and let it ask"), True
    except NotStarted as error:
        return problem(use.name, str(error), use.advice), False
    return await _started(use, machine, seen, told), True


async def _started(use: Use, machine: Machine, seen: Seen, told: set[str]) -> Check:
    """Return the check of a server that starts; ``told`` are brokers whose problem is told."""
    agent = use.agent if use.is_shared else "an agent of each project"
    said = f"starts this server as {agent}, with {seen.tools} tools, on "
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
        if broker_of(url) in told:
            return ok(use.name, f"{said}, whose problem is told above")
        try:
            async with Mq9Client(url, reconnect_attempts=0) as client:
                said += await _turns(client, use)
        except Mq9Error as error:
            advice = f"start that, or {PROGRAM} install HOST --server URL"
            return problem(use.name, f"on {shown_url(url)}: {error}", advice)
    if seen.version not in {None, VERSION}:
        said += f"; it is version {seen.version}, and this is {VERSION}"
        return warning(use.name, said, f"upgrade the older one, or {use.advice}")
    return _place(use, machine, url, said)


async def _turns(client: Mq9Client, use: Use) -> str:
    """Say how many turns mail began by itself in the last hour; nothing where it began none."""
    if not use.is_shared:
        return ""
    try:
        address = use.launch.option("--mail-address") or slug(use.agent)
        turns = (await client.mailbox_status(address)).turns
    except (Forbidden, InvalidRequest, MailboxNotFound):
        return ""
    return f"; mail began {count(turns, 'automatic turn')} in the last hour" if turns else ""


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
