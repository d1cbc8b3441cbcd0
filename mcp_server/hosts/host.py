"""A program that starts MCP servers: where and how it keeps its list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from mcp_server.hosts.commands import HostCommand
from mcp_server.hosts.config import json_text
from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mq9 import InvalidRequest
from mq9.address import shown

Scope = Literal["user", "project"]


class ConfigText(Protocol):
    """A format of configurations, of which one entry can be changed; see ``json_text``."""

    def parse(self, text: str) -> Any:
        """Read a document."""

    def find(self, text: str, path: Sequence[str]) -> str | None:
        """Return an entry's value as JSON."""

    def put(self, text: str, path: Sequence[str], value: Mapping[str, Any] | str) -> str:
        """Return the document with an entry set."""

    def drop(self, text: str, path: Sequence[str]) -> str:
        """Return the document without an entry."""

    def is_empty(self, text: str, path: Sequence[str] = ()) -> bool:
        """Tell whether the object at a path is there and empty."""


@dataclass(frozen=True, slots=True)
class Host:
    """A program that starts MCP servers.

    Attributes:
        name: What it is called on the command line.
        title: What people call it.
        user_files: Finds the files that may hold this user's list. The one that is there counts,
            else the first.
        project_files: The same for one project, from the project's directory; empty where the host
            has none.
        servers_key: The member of its file that holds the servers by name.
        members: What its entries say beside what is to be run.
        has_one_list: Whether its entries have the command and its arguments in one list.
        text: The format of its files.
        command: The command by which it changes this user's file itself; None where it has none.
        folder: What stands for the project's directory in a project's file, where the server may be
            started elsewhere.
        private_data: Finds the directories of which it sees a copy of its own.
    """

    name: str
    title: str
    user_files: Callable[[Machine], Sequence[Path]]
    project_files: Sequence[str] = ()
    servers_key: str = "mcpServers"
    members: Mapping[str, Any] = field(default_factory=dict)
    has_one_list: bool = False
    text: ConfigText = json_text
    command: HostCommand | None = None
    folder: str | None = None
    private_data: Callable[[Machine], Sequence[Path]] = lambda _machine: ()

    def file(self, machine: Machine, scope: Scope = "user") -> Path:
        """Return the file that lists the host's servers.

        Args:
            machine: Where the host runs.
            scope: ``user`` for all that this user does, ``project`` for one project.

        Raises:
            InvalidRequest: The scope is neither, or the host has no files in projects.
        """
        if scope == "user":
            files = self.user_files(machine)
        elif scope == "project":
            files = [machine.project / one for one in self.project_files]
        else:
            raise InvalidRequest(f"scope: {shown(scope)} is neither user nor project")
        if not files:
            raise InvalidRequest(
                f"project: {self.title} has no configuration in projects; leave --project out"
            )
        return next((one for one in files if one.exists()), files[0])

    def value(self, launch: Launch) -> dict[str, Any]:
        """Return what an entry says that is to run something."""
        own = dict(self.members)
        given = dict(launch.environment)
        if self.has_one_list:
            own["command"] = [launch.command, *launch.arguments]
            return own | ({"environment": given} if given else {})
        own |= {"command": launch.command, "args": list(launch.arguments)}
        return own | ({"env": given} if given else {})
