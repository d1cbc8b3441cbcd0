"""The entry in a host's configuration that has the host start this server."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import quote, urlsplit

from mcp_server.hosts.host import Host, Launch, Machine, Remote, Scope
from mcp_server.settings import AUTO
from mq9 import InvalidRequest
from mq9.address import shown
from mq9.operations.identity import Identity
from mq9.transport import servers
from mq9.transport.open import VARIABLE, file_of, shown_url

DEFAULT_KEY = "mq9"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every host takes as the name of a server
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class HostEntry:
    """The entry of the server in a host's configuration."""

    host: Host
    key: str
    launch: Launch | Remote
    scope: Scope = "user"

    @property
    def path(self) -> tuple[str, str]:
        """The place of the entry in the host's configuration."""
        return self.host.servers_key, self.key

    @property
    def value(self) -> dict[str, Any]:
        """The entry's content."""
        return self.host.value(self.launch)

    @property
    def text(self) -> str:
        """The entry with all that it stands in, to be pasted into the configuration."""
        return self.host.text.put("", self.path, self.value)

    @property
    def is_secret(self) -> bool:
        """True where it holds a password or token."""
        if isinstance(self.launch, Remote):
            return self.launch.token is not None
        return has_credentials(self.launch.environment.get(VARIABLE))

    def is_said_by(self, found: Any) -> bool:
        """Tell whether an entry means the same, though it may be written in another way."""
        if isinstance(self.launch, Remote):
            return bool(found == self.value)
        return Launch.read(found) == self.launch


def make_entry(
    host: Host,
    machine: Machine,
    *,
    server: str | None,
    scope: Scope = "user",
    agent: str | None = None,
    mail_address: str | None = None,
    options: Sequence[str] = (),
    key: str = DEFAULT_KEY,
    python: str = sys.executable,
) -> HostEntry:
    """Return the entry of the server, which in a project names nothing of this machine.

    Without ``server``, in projects only, the server finds the broker as all programs of mq9 do.
    """
    _check_key(key)
    default = AUTO if scope == "project" else host.name
    name = Identity(default if agent is None else agent, mail_address=mail_address).name
    if name == AUTO and mail_address is not None:
        raise InvalidRequest(
            f"mail_address: {mail_address!r} is one mailbox, and agents that are named "
            "automatically have one each; give the agent a name"
        )
    own = [] if mail_address is None else ["--mail-address", mail_address]
    arguments = ("--agent", name, *own, *options)
    if server is not None and server.startswith("memory:"):
        raise InvalidRequest(f"server: {server!r} ends with its process; hosts never meet on it")
    if scope == "project":
        command = PROGRAM
        url = None if server is None else in_project(server, host, machine)
        refuse_paths(arguments)
    elif server is None:
        raise InvalidRequest("server: it is not given, and hosts would not meet by chance")
    else:
        command = str(find_command(machine, python))
        url = absolute(server)
        refuse_private(server, host, machine)
    given = {} if url is None else {VARIABLE: url}
    entry = HostEntry(host, key, Launch(command, arguments, given), scope)
    encoded("entry", json.dumps(entry.value, ensure_ascii=False))
    return entry


def make_remote_entry(
    host: Host,
    machine: Machine,
    *,
    url: str,
    scope: Scope = "user",
    variable: str | None = None,
    key: str = DEFAULT_KEY,
) -> HostEntry:
    """Return the entry of a server that serves HTTP; its token is in a variable, or there is none.

    A host that reads no variables in its headers is given the token as it is now.
    """
    _check_key(key)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise InvalidRequest(f"url: {without_credentials(url)!r} is not http(s)://host/path")
    if variable is not None and not _VARIABLE.fullmatch(variable):
        raise InvalidRequest(f"token_variable: {shown(variable)} is not the name of a variable")
    token = None
    if variable is not None and host.remote is not None and not host.remote.knows_variables:
        if scope == "project":
            raise InvalidRequest(
                f"token_variable: {host.title} reads no variables there, and a project's file is "
                "for all who have the project; leave --project out"
            )
        token = machine.environment.get(variable)
        if not token:
            raise InvalidRequest(
                f"token_variable: {variable} is not set, and {host.title} reads no variables: its "
                "file has to hold the token"
            )
    entry = HostEntry(host, key, Remote(url, variable, token), scope)
    encoded("entry", json.dumps(entry.value, ensure_ascii=False))
    return entry


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise InvalidRequest(f"key: {shown(key)} is not 1 to 64 of a-z, A-Z, 0-9, '_' and '-'")


def encoded(what: str, text: str) -> bytes:
    """Return a text as UTF-8."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{what}: {shown(text[error.start : error.end])} cannot be written as UTF-8"
        ) from None


_CREDENTIALS = re.compile(r"\b((?:nats|tls|https?)://)[^\s\"'/]*@|\b(Bearer )[^\s\"'${][^\s\"']*")


def without_credentials(text: str) -> str:
    """Return a text without passwords in URLs and bearer tokens; variables of a host stay."""
    return _CREDENTIALS.sub(lambda found: f"{found[1]}***@" if found[1] else "Bearer ***", text)


def has_credentials(url: str | None) -> bool:
    """Tell whether a broker's URL holds a password or token."""
    return url is not None and file_of(url) is None and servers.has_credentials(url)


def absolute(url: str) -> str:
    """Return a broker's URL so that it means the same in every directory."""
    path = file_of(url)
    return url if path is None else _file_url(quote(path.as_posix(), safe="/:"), url)


def in_project(url: str, host: Host, machine: Machine) -> str:
    """Return a broker's URL as it means the same to all who have the project."""
    path = file_of(url)
    if path is None:
        if has_credentials(url):
            raise InvalidRequest(
                f"server: {shown_url(url)} has a password or token, and a project's file is for "
                f"all who have the project; leave it out, and let each set {VARIABLE}"
            )
        given = servers.parse(url)
        refuse_paths([one for one in (given.ca, given.cert, given.key) if one is not None])
        return url
    try:
        inside = path.relative_to(machine.project.resolve())
    except ValueError:
        raise InvalidRequest(
            f"server: {url!r} is not in the project, and so it is elsewhere for others; name a "
            "file in it or a server, or leave it out for the file of each user"
        ) from None
    place = quote(inside.as_posix(), safe="/:")
    return _file_url(place if host.folder is None else f"{host.folder}/{place}", url)


def refuse_paths(words: Sequence[str]) -> None:
    """Refuse words, such as arguments, that name a place on this machine."""
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        if Path(value).is_absolute() or PureWindowsPath(value).is_absolute():
            raise InvalidRequest(
                f"project: {value!r} is a place on this machine, and a project's file is for all "
                "who have the project"
            )


def refuse_private(url: str, host: Host, machine: Machine) -> None:
    """Refuse a file of which a host would see a copy of its own."""
    path = file_of(url)
    for folder in host.private_data(machine):
        if path is not None and path.is_relative_to(folder.resolve()):
            raise InvalidRequest(
                f"server: {path} lies below {folder}, of which {host.title}, as it is installed "
                "here, sees a copy of its own; let all hosts use a file elsewhere, such as "
                f"--server sqlite:///{(machine.home / 'mq9.db').as_posix()}"
            )


def _file_url(place: str, given: str) -> str:
    query = urlsplit(given).query
    return f"sqlite:///{place}" + (f"?{query}" if query else "")


PROGRAM = "mq9-mcp"
MODULE = ("-m", "mcp_server")


def find_command(machine: Machine, python: str = sys.executable) -> Path:
    """Return the absolute path of ``mq9-mcp``: the one beside the running Python, else on PATH.

    The Python of a virtual environment is a link, beside which the environment's programs lie.
    """
    name = f"{PROGRAM}.exe" if machine.platform == "win32" else PROGRAM
    on_path = machine.environment.get("PATH", "").split(os.pathsep)
    for folder in (Path(python).parent, *map(Path, on_path)):
        command = folder / name
        # A relative directory would be another one for the host.
        if folder.is_absolute() and command.is_file() and os.access(command, os.X_OK):
            if "archive-v0" in command.parts:  # of an environment that uvx has made
                raise InvalidRequest(
                    f"command: {command} is in the cache of uv, which is cleared at times; "
                    "install the package where it stays, as with uv tool install"
                )
            return command
    raise InvalidRequest(
        f"command: there is no {name} beside {python} or on PATH; in the clone, "
        "pip install '.[mcp]'"
    )


def is_ours(launch: Launch) -> bool:
    """Tell whether something called ``mq9-mcp`` is to be run, be it this one or another."""
    program = file_name(launch.command)
    return is_module(launch) or PROGRAM in {
        program,
        *(launch.arguments if program == "uvx" else ()),
    }


def is_module(launch: Launch) -> bool:
    """Tell whether a Python is to run the server as a module."""
    return launch.arguments[:2] == MODULE and file_name(launch.command).startswith("python")


def file_name(command: str) -> str:
    """Return the last part of a path, of any system, without ``.exe``."""
    return command.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
