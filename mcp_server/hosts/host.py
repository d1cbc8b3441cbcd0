"""A program that starts MCP servers: where it keeps its list of them, and what that says."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from mcp_server.hosts import json_text
from mq9 import InvalidRequest


@dataclass(frozen=True, slots=True)
class Launch:
    """The command that a host runs."""

    command: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, entry: Any) -> Launch | None:
        """Read an entry of any host; None when it starts no program, or is not an entry."""
        if not isinstance(entry, Mapping):
            return None
        inner = entry.get("transport", entry)  # where Cline's own command has written it
        if not isinstance(inner, Mapping):
            return None
        command, arguments = inner.get("command"), inner.get("args") or []
        if isinstance(command, list) and command:
            command, *arguments = command
        given = inner.get("env") or inner.get("environment") or entry.get("env") or {}
        if not (
            isinstance(command, str)
            and isinstance(arguments, list)
            and isinstance(given, Mapping)
            and all(isinstance(one, str) for one in (*arguments, *given.values()))
        ):
            return None
        return cls(command, tuple(arguments), dict(given))

    def option(self, name: str) -> str | None:
        """Return the value of an option on the command line; None where it is not given."""
        return next(iter(self.options(name)), None)

    def options(self, name: str) -> list[str]:
        """Return the values of an option that may be repeated."""
        arguments = self.arguments
        found = []
        for at, one in enumerate(arguments):
            if one == name and at + 1 < len(arguments):
                found.append(arguments[at + 1])
            elif one.startswith(f"{name}="):
                found.append(one.partition("=")[2])
        return found


@dataclass(frozen=True, slots=True)
class Remote:
    """A server that a host reaches by HTTP, with the token that says who is calling."""

    url: str
    variable: str | None = None  # which holds the token
    token: str | None = field(default=None, repr=False)  # of a host that reads no variables


@dataclass(frozen=True, slots=True)
class RemoteForm:
    """The form of a host's entry for a server over HTTP."""

    members: Mapping[str, Any] = field(default_factory=dict)
    url: str = "url"
    reference: str | None = None  # what stands for a variable ("%s") in a header
    variable: str | None = None  # the member that names the variable of the token
    in_options: bool = False  # the headers stand in "requestOptions"

    @property
    def knows_variables(self) -> bool:
        """True where the entry need not hold the token itself."""
        return self.reference is not None or self.variable is not None

    def read(self, entry: Any) -> Remote | None:
        """Read an entry; None when it names no URL."""
        if not isinstance(entry, Mapping) or not isinstance(url := entry.get(self.url), str):
            return None
        if self.variable is not None:
            named = entry.get(self.variable)
            return Remote(url, named if isinstance(named, str) else None)
        options = entry.get("requestOptions", entry) if self.in_options else entry
        headers = options.get("headers") if isinstance(options, Mapping) else None
        given = headers.get("Authorization") if isinstance(headers, Mapping) else None
        token = given.removeprefix("Bearer ") if isinstance(given, str) else None
        if token is None or self.reference is None:
            return Remote(url, token=token)
        before, _, after = self.reference.partition("%s")
        if token.startswith(before) and token.endswith(after):
            return Remote(url, token[len(before) : len(token) - len(after)])
        return Remote(url, token=token)

    def value(self, remote: Remote) -> dict[str, Any]:
        """Return what the entry says."""
        own = {**self.members, self.url: remote.url}
        if remote.variable is None:
            return own
        if self.variable is not None:
            return own | {self.variable: remote.variable}
        token = remote.token if self.reference is None else self.reference % remote.variable
        headers = {"headers": {"Authorization": f"Bearer {token}"}}
        return own | ({"requestOptions": headers} if self.in_options else headers)


@dataclass(frozen=True, slots=True)
class Machine:
    """The system, home, environment and project that decide the places of files."""

    platform: str
    home: Path
    environment: Mapping[str, str]
    project: Path

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine, this user and the working directory."""
        try:
            return cls(sys.platform, Path.home(), dict(os.environ), Path.cwd())
        except RuntimeError as error:
            raise InvalidRequest(f"home: {error}; set HOME") from None
        except OSError as error:
            raise InvalidRequest(f"project: no working directory: {error.strerror}") from None

    def directory(self, variable: str) -> Path | None:
        """Return the absolute path that an environment variable names, if it names one."""
        path = Path(self.environment.get(variable, ""))
        return path if path.is_absolute() else None

    @property
    def settings(self) -> Path:
        """This user's settings of programs with windows."""
        if self.platform == "win32":
            return self.directory("APPDATA") or self.home / "AppData" / "Roaming"
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.dot_config

    @property
    def dot_config(self) -> Path:
        """The settings of programs that follow the habits of Linux on every system."""
        return self.directory("XDG_CONFIG_HOME") or self.home / ".config"

    @property
    def local_data(self) -> Path:
        """The data of programs on Windows that stays on this machine."""
        return self.directory("LOCALAPPDATA") or self.home / "AppData" / "Local"

    def package(self, pattern: str, file: str) -> Path | None:
        """Return a file of a program that came as a package of Windows (MSIX), if there is one.

        Files that such a program writes below ``AppData`` land in a directory of its own. The file
        need not exist; of several packages the one that has it counts.
        """
        if self.platform != "win32":
            return None
        found = [
            one / file for one in sorted(self.local_data.glob(f"Packages/{pattern}/LocalCache"))
        ]
        return next((one for one in found if one.exists()), found[0] if found else None)

    def program(self, name: str) -> Path | None:
        """Return a program on PATH that can be started safely; on Windows no script."""
        wanted = f"{name}.exe" if self.platform == "win32" else name
        path = shutil.which(wanted, path=self.environment.get("PATH", ""))
        # A relative directory would be another one elsewhere.
        return Path(path) if path is not None and Path(path).is_absolute() else None


Scope = Literal["user", "project"]


class ConfigText(Protocol):
    """A format of configurations, of which one entry can be changed; see ``json_text``."""

    def parse(self, text: str) -> Any:
        """Read a document."""

    def find(self, text: str, path: Sequence[str]) -> str | None:
        """Return an entry's value as JSON."""

    def put(
        self, text: str, path: Sequence[str], value: Mapping[str, Any] | list[Any] | str
    ) -> str:
        """Return the document with an entry set."""

    def drop(self, text: str, path: Sequence[str]) -> str:
        """Return the document without an entry."""

    def is_empty(self, text: str, path: Sequence[str] = ()) -> bool:
        """Tell whether the object at a path is there and empty."""


@dataclass(frozen=True, slots=True)
class Host:
    """A program that starts MCP servers; of several files the first that exists counts."""

    name: str
    title: str
    user_files: Callable[[Machine], Sequence[Path]]
    project_files: Sequence[str] = ()
    servers_key: str = "mcpServers"
    members: Mapping[str, Any] = field(default_factory=dict)  # of each entry
    has_one_list: bool = False  # of the command and its arguments
    text: ConfigText = json_text
    remote: RemoteForm | None = None  # None where it reaches no server by HTTP
    needs_file: bool = False  # one that we began would replace settings that it has elsewhere
    folder: str | None = None  # stands for the project's directory in a project's file
    # Directories of which it sees a copy of its own.
    private_data: Callable[[Machine], Sequence[Path]] = lambda _machine: ()

    def file(self, machine: Machine, scope: Scope = "user") -> Path:
        """Return the file that lists the host's servers."""
        files: Sequence[Path] = [machine.project / one for one in self.project_files]
        if scope == "user":
            files = self.user_files(machine)
        if not files:
            raise InvalidRequest(
                f"project: {self.title} has no configuration in projects; leave --project out"
            )
        return next((one for one in files if one.exists()), files[0])

    def value(self, launch: Launch | Remote) -> dict[str, Any]:
        """Return what an entry says that is to run something, or to reach it."""
        if isinstance(launch, Remote):
            if self.remote is None:
                raise InvalidRequest(f"url: {self.title} reads no servers over HTTP from its file")
            return self.remote.value(launch)
        own = dict(self.members)
        given = dict(launch.environment)
        if self.has_one_list:
            own["command"] = [launch.command, *launch.arguments]
            return own | ({"environment": given} if given else {})
        own |= {"command": launch.command, "args": list(launch.arguments)}
        return own | ({"env": given} if given else {})
