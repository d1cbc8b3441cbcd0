"""A program that starts MCP servers: where it keeps its list of them, and what that says."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
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
        arguments = self.arguments
        for at, one in enumerate(arguments):
            if one == name and at + 1 < len(arguments):
                return arguments[at + 1]
            if one.startswith(f"{name}="):
                return one.partition("=")[2]
        return None


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
_TIMEOUT_S = 60  # of a host's own command


@dataclass(frozen=True, slots=True)
class HostCommand:
    """A host's own command, for all that this user does; its arguments by the entry's key."""

    program: str
    add: Callable[[str, Launch], list[str]]
    remove: Callable[[str], list[str]] | None = None


def run_command(machine: Machine, line: Sequence[str]) -> None:
    """Run a command to its end."""
    shown = shlex.join(line)
    try:
        done = subprocess.run(  # noqa: S603  # the user's own program, after showing the line
            line,
            cwd=machine.home,
            env=dict(machine.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InvalidRequest(
            f"`{shown}` did not end within {_TIMEOUT_S} s; edit the file, with --edit"
        ) from None
    except OSError as error:
        raise InvalidRequest(
            f"`{shown}` cannot be run: {error.strerror or error}; edit the file, with --edit"
        ) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise InvalidRequest(
            f"`{shown}` failed with {done.returncode}: {said[-500:]!r}; edit the file, with --edit"
        )


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
    """A program that starts MCP servers; of several files the first that exists counts."""

    name: str
    title: str
    user_files: Callable[[Machine], Sequence[Path]]
    project_files: Sequence[str] = ()
    servers_key: str = "mcpServers"
    members: Mapping[str, Any] = field(default_factory=dict)  # of each entry
    has_one_list: bool = False  # of the command and its arguments
    text: ConfigText = json_text
    command: HostCommand | None = None
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

    def value(self, launch: Launch) -> dict[str, Any]:
        """Return what an entry says that is to run something."""
        own = dict(self.members)
        given = dict(launch.environment)
        if self.has_one_list:
            own["command"] = [launch.command, *launch.arguments]
            return own | ({"environment": given} if given else {})
        own |= {"command": launch.command, "args": list(launch.arguments)}
        return own | ({"env": given} if given else {})
