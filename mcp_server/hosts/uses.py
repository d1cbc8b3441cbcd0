"""The configurations of hosts that start this server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from mcp_server.hosts.host import Host, Scope
from mcp_server.hosts.known import HOSTS
from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mcp_server.hosts.program import PROGRAM, is_ours
from mcp_server.settings import AUTO
from mq9.cli.diagnostics import Check, ok, warning
from mq9.errors import InvalidRequest
from mq9.http.loopback import is_loopback
from mq9.transport import servers
from mq9.transport.open import VARIABLE, default_file, file_of, shown_url


@dataclass(frozen=True, slots=True)
class Use:
    """An entry by which a host starts this server.

    Attributes:
        host: The host.
        scope: Whose configuration has the entry.
        launch: What the entry runs.
    """

    host: Host
    scope: Scope
    launch: Launch

    @property
    def name(self) -> str:
        """The host, and whether it is for a project only."""
        return self.host.name if self.scope == "user" else f"{self.host.name} (project)"

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
        """Whether it would be the same agent in another host."""
        return self.agent != AUTO

    def url(self, machine: Machine) -> str | None:
        """Return the broker's URL; None where the entry does not name one."""
        given = self._given_url
        if given is None or self.host.folder is None:
            return given
        return given.replace(self.host.folder, machine.project.as_posix())

    @property
    def has_relative_file(self) -> bool:
        """Whether its broker is another one in each directory that the host starts it in."""
        prefix, _, path = (self._given_url or "").partition("sqlite:///")
        return self.scope == "user" and not prefix and bool(path) and not Path(path).is_absolute()

    @property
    def _given_url(self) -> str | None:
        return self.launch.option("--server") or self.launch.environment.get(VARIABLE)


def find_uses(machine: Machine) -> tuple[list[Use], list[Check]]:
    """Look for this server in the configurations of all hosts.

    Returns:
        Its entries, and what is to be said of hosts that have none.
    """
    uses: list[Use] = []
    checks: list[Check] = []
    for host, scope in _places():
        found, said = _look(host, scope, machine)
        uses += found
        checks += said
    return uses, checks


def broker_of(url: str | None) -> str:
    """Return what a broker's URL means, spelled alike for the same broker.

    Args:
        url: The URL; None for the file of this user.
    """
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


def _places() -> Iterator[tuple[Host, Scope]]:
    for host in HOSTS.values():
        for scope in get_args(Scope):
            if scope == "user" or host.project_files:
                yield host, scope


def _look(host: Host, scope: Scope, machine: Machine) -> tuple[list[Use], list[Check]]:
    path = host.file(machine, scope)
    advice = f"{PROGRAM} install {host.name}"
    try:
        text = path.read_text("utf-8-sig")
        entries = _servers(host, text).values()
        ours = [one for entry in entries if (one := Launch.read(entry)) and is_ours(one)]
    except FileNotFoundError:
        said = [ok(host.name, f"has no {path}; to use it there: {advice}")]
        return [], said if scope == "user" else []
    except (OSError, ValueError, InvalidRequest) as error:
        return [], [warning(host.name, f"{path} cannot be read: {error}", "look at it")]
    if not ours and scope == "user":
        return [], [ok(host.name, f"does not start this server; to have it do so: {advice}")]
    return [Use(host, scope, one) for one in ours], []


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
