"""Writing the server into a host's configuration, and taking it out again.

Either is planned first, so that it can be shown: a plan has read what it needs and has changed
nothing. The configuration keeps all that it held, to the letter; only our own entry is set. Where
the host has a command of its own that adds a server, this is run instead.

Beside the configuration stands a file that says what was in the place of our entry before, for as
long as that is ours. Taking the entry out puts this back, whatever else was edited meanwhile.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import quote, urlsplit

from mcp_server.hosts import commands, json_text
from mcp_server.hosts.changes import Change, read, without_links
from mcp_server.hosts.known import ConfigText, Host, Scope
from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mcp_server.settings import AUTO
from mq9 import InvalidRequest
from mq9.address import shown
from mq9.operations import Identity
from mq9.transport import servers
from mq9.transport.open import VARIABLE, file_of, shown_url

DEFAULT_KEY = "mq9"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every host takes as the name of a server
PROGRAM = "mq9-mcp"
_BOM = "\ufeff"
_CREDENTIALS = re.compile(r"\b(nats|tls)://[^\s\"']*@")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Entry:
    """What a host has to know of the server.

    Attributes:
        host: Who is to start it.
        key: What the host calls it.
        launch: What the host is to run.
        scope: Whose configuration it is for: ``user`` or ``project``.
    """

    host: Host
    key: str
    launch: Launch
    scope: Scope = "user"

    @property
    def path(self) -> tuple[str, str]:
        """Where the entry stands in the host's configuration."""
        return self.host.servers_key, self.key

    @property
    def value(self) -> dict[str, Any]:
        """What stands there."""
        return self.host.value(self.launch)

    @property
    def text(self) -> str:
        """The entry with all that it stands in, to be pasted into the configuration."""
        return self.host.text.put("", self.path, self.value)

    @property
    def is_secret(self) -> bool:
        """Whether it holds a password or token."""
        return _is_secret(self.launch.environment.get(VARIABLE))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a host's configuration.

    Attributes:
        host: Whose configuration it is.
        machine: Where the host runs.
        config: The change to the configuration. Where this is a link, to what it leads to.
        memory: The change to what is remembered beside it.
        key: What the host calls the server.
        entry: What is to be written; None when it is to be taken out.
        line: The host's own command that changes the configuration; empty where it is edited.
    """

    host: Host
    machine: Machine
    config: Change
    memory: Change
    key: str
    entry: Entry | None
    line: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The configuration."""
        return self.config.path

    @property
    def is_change(self) -> bool:
        """Whether applying it changes anything."""
        return self.config.is_change or self.memory.is_change

    @property
    def command(self) -> str:
        """The host's own command as a shell takes it; empty where there is none to run."""
        return shlex.join(self.line)

    @property
    def diff(self) -> str:
        """What changes in the configuration, as ``diff -u`` shows it; empty where nothing does.

        Passwords and tokens in URLs of brokers are left out. The host's own command may spell it in
        another way.
        """
        before, after = self.config.before, self.config.after
        lines = difflib.unified_diff(
            _lines(before),
            _lines(after),
            "(no file)" if before is None else f"{self.path} (now)",
            "(no file)" if after is None else f"{self.path} (then)",
            lineterm="",
        )
        return without_credentials("\n".join(lines))

    def apply(self) -> None:
        """Do it.

        Raises:
            InvalidRequest: A file was changed since, or cannot be written, or the host's own
                command has not done it. The configuration was then left as it is by us.
        """
        self.config.check()
        self.memory.check()
        # What is remembered and was not written does no harm; the reverse could not be undone.
        if self.entry is not None:
            self.memory.make()
        if self.line:
            commands.run(self.machine, self.line)
            self._check_command()
        else:
            self.config.make()
        if self.entry is None:
            self.memory.make()

    def _check_command(self) -> None:
        text = _Document.read(self.path).text
        found = self.host.text.find(text, (self.host.servers_key, self.key))
        wanted = None if self.entry is None else self.entry.launch
        if (None if found is None else Launch.read(json_text.parse(found))) != wanted:
            raise InvalidRequest(
                f"`{self.command}` has not changed {self.path} as it should have; edit that, with "
                "--edit"
            )


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
) -> Entry:
    """Return what a host has to know of the server.

    Args:
        host: Who is to start it.
        machine: Where the host runs.
        server: The URL of the broker. A path in it is made absolute, as the host starts programs in
            a directory and with variables of its own. None, which is for projects only, lets each
            user's server find the broker as all programs of mq9 do.
        scope: ``user`` for all that this user does, ``project`` for one project. What is for a
            project names nothing of this machine: the program by its name, a file by its place in
            the project.
        agent: The agent's name; by default that of the host, and in a project ``auto``, since some
            hosts read the files of others there.
        mail_address: Its mailbox; the slug of its name when not given.
        options: Further options of ``mq9-mcp``.
        key: What the host is to call the server: 1 to 64 of a-z, A-Z, 0-9, ``_`` and ``-``.
        python: The running Python, beside which the program is looked for first.

    Raises:
        InvalidRequest: The name, the URL or the key is not one, there is no ``mq9-mcp``, or others
            would not find the broker or should not see it.
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest(f"key: {shown(key)} is not 1 to 64 of a-z, A-Z, 0-9, '_' and '-'")
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
        raise InvalidRequest(f"server: {server!r} is gone with the process; hosts never meet there")
    if scope == "project":
        command = PROGRAM
        url = None if server is None else _in_project(server, host, machine)
        _refuse_paths(arguments)
    elif server is None:
        raise InvalidRequest("server: it is not given, and hosts would not meet by chance")
    else:
        command = str(find_command(machine, python))
        url = _from_anywhere(server)
        _refuse_private(host, machine, server)
    given = {} if url is None else {VARIABLE: url}
    entry = Entry(host, key, Launch(command, arguments, given), scope)
    _encoded("entry", json.dumps(entry.value, ensure_ascii=False))
    return entry


def find_command(machine: Machine, python: str = sys.executable) -> Path:
    """Return the absolute path of ``mq9-mcp``: the one beside the running Python, else on PATH.

    Args:
        machine: Where it is to run.
        python: The running Python. In a virtual environment it is a link, which is not followed:
            the environment's programs lie beside the link.

    Raises:
        InvalidRequest: It is in neither place, or only where it will not stay.
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


def without_credentials(text: str) -> str:
    """Return a text without the passwords and tokens in the URLs of servers in it."""
    return _CREDENTIALS.sub(r"\1://***@", text)


def plan_install(entry: Entry, machine: Machine, *, edit: bool = False) -> Plan:
    """Plan to write an entry into the configuration of its host.

    The host's own command is run where it is on PATH, except for what others could then see (a
    password or token, on the command line) or what it might lose (comments, an entry that is there
    already).

    Args:
        entry: What is to stand there.
        machine: Where the host runs.
        edit: Whether to edit the file in any case.

    Raises:
        InvalidRequest: The host has no such scope, or its configuration cannot be read; the error
            then holds what to paste into it.
    """
    host = entry.host
    place = host.file(machine, entry.scope)
    config = _Document.read(place)
    memory = _Memory.read(place)
    try:
        old = host.text.find(config.text, entry.path)
        is_there = old is not None and Launch.read(json_text.parse(old)) == entry.launch
        changed = config.text if is_there else host.text.put(config.text, entry.path, entry.value)
        had_servers = host.text.find(config.text, entry.path[:1]) is not None
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{config.path}: {error}. It was left as it is; edit it by hand, and add "
            + without_credentials(_on_one_line({host.servers_key: {entry.key: entry.value}}))
        ) from None
    if not is_there:
        if not memory.before:
            memory.made_file = config.content is None
            memory.made_servers = not had_servers
        memory.before.setdefault(entry.key, old)
    line: tuple[str, ...] = ()
    if old is None and not edit and not entry.is_secret and _has_no_comments(host.text, config):
        line = _line_to_add(entry, machine)
    change = config.change(changed, is_secret=entry.is_secret)
    return Plan(host, machine, change, memory.change(), entry.key, entry, line)


def plan_undo(
    host: Host,
    machine: Machine,
    *,
    key: str = DEFAULT_KEY,
    scope: Scope = "user",
    edit: bool = False,
) -> Plan:
    """Plan to put back what was in the place of our entry before it was first written.

    Args:
        host: Whose configuration it is in.
        machine: Where the host runs.
        key: What the host calls the server.
        scope: As it was when the entry was written.
        edit: Whether to edit the file even where the host has a command that takes it out.

    Raises:
        InvalidRequest: Nothing is remembered, the host has no such scope, or its configuration
            cannot be read.
    """
    place = host.file(machine, scope)
    config = _Document.read(place)
    memory = _Memory.read(place)
    if key not in memory.before:
        raise InvalidRequest(
            f"key: there is nothing to undo for {shown(key)} in {config.path}; mq9-mcp install did "
            "not write it, or it was undone before"
        )
    old = memory.before.pop(key)
    in_file = (host.servers_key,)
    changed: str | None
    try:
        is_there = host.text.find(config.text, (*in_file, key)) is not None
        if old is not None:
            changed = host.text.put(config.text, (*in_file, key), old)
        else:
            changed = host.text.drop(config.text, (*in_file, key))
            if memory.made_servers and host.text.is_empty(changed, in_file):
                changed = host.text.drop(changed, in_file)
            if config.content is None or (memory.made_file and host.text.is_empty(changed)):
                changed = None
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{config.path}: {error}. It was left as it is; edit it by hand, and "
            + (
                f"take {key} out"
                if old is None
                else f"let {key} be {_on_one_line(json_text.parse(old))}"
            )
        ) from None
    line: tuple[str, ...] = ()
    # Only a part of what is more than our entry is for the host's own command.
    if is_there and old is None and changed is not None and scope == "user" and not edit:
        line = _line_to_remove(host, machine, key, config)
    return Plan(host, machine, config.change(changed), memory.change(), key, None, line)


def _line_to_add(entry: Entry, machine: Machine) -> tuple[str, ...]:
    command = entry.host.command
    program = None if command is None else machine.program(command.program)
    if command is None or program is None or entry.scope != "user":
        return ()
    return str(program), *command.add(entry.key, entry.launch)


def _line_to_remove(host: Host, machine: Machine, key: str, config: _Document) -> tuple[str, ...]:
    command = host.command
    if command is None or command.remove is None or not _has_no_comments(host.text, config):
        return ()
    program = machine.program(command.program)
    return () if program is None else (str(program), *command.remove(key))


def _has_no_comments(text: ConfigText, config: _Document) -> bool:
    """Tell whether a host's own command loses nothing; those that write TOML keep comments."""
    return text is not json_text or json_text.is_strict(config.text)


@dataclass(frozen=True, slots=True)
class _Document:
    """A configuration, without the byte order mark that it may begin with."""

    path: Path
    content: bytes | None
    mark: str
    text: str

    @classmethod
    def read(cls, place: Path) -> _Document:
        path = without_links(place)
        content = read(path)
        text = _decoded(path, content)
        mark = _BOM if text.startswith(_BOM) else ""
        return cls(path, content, mark, text.removeprefix(mark))

    def change(self, text: str | None, *, is_secret: bool = False) -> Change:
        if text == self.text:
            return Change(self.path, self.content, self.content, is_secret)
        after = None if text is None else _encoded(str(self.path), self.mark + text)
        return Change(self.path, self.content, after, is_secret)


@dataclass(slots=True)
class _Memory:
    """What was in the place of our entries, in a file beside the configuration.

    Attributes:
        path: That file.
        content: Its bytes; None where there is none.
        before: By key, the text of what stood there; None where nothing did.
        made_file: Whether there was no configuration before the first of them.
        made_servers: Whether it had no place for servers.
    """

    path: Path
    content: bytes | None
    before: dict[str, str | None]
    made_file: bool
    made_servers: bool

    @classmethod
    def read(cls, place: Path) -> _Memory:
        path = place.with_name(f"{place.name}.mq9-undo")
        content = read(path)
        if content is None:
            return cls(path, None, {}, made_file=False, made_servers=False)
        wrong = InvalidRequest(
            f"{path} is not what mq9-mcp install wrote; move it away, and there is nothing to undo"
        )
        try:
            found = json_text.parse(_decoded(path, content))
        except InvalidRequest:
            raise wrong from None
        match found:
            case {
                "before": dict(before),
                "made_file": bool(made_file),
                "made_servers": bool(made_servers),
            } if all(_is_value(one) for one in before.values()):
                return cls(path, content, before, made_file, made_servers)
        raise wrong

    def change(self) -> Change:
        if not self.before:
            return Change(self.path, self.content, None)
        document = {
            "before": self.before,
            "made_file": self.made_file,
            "made_servers": self.made_servers,
        }
        text = f"{json.dumps(document, indent=2)}\n"
        return Change(self.path, self.content, text.encode("ascii"))


def _on_one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_value(text: Any) -> bool:
    if text is None:
        return True
    try:
        json_text.parse(text)
    except (InvalidRequest, TypeError):
        return False
    return True


def _decoded(path: Path, content: bytes | None) -> str:
    try:
        return (content or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8: byte {error.start} is no part of it") from None


def _encoded(what: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{what}: {shown(text[error.start : error.end])} cannot be written as UTF-8"
        ) from None


def _lines(content: bytes | None) -> list[str]:
    # Not splitlines(): it knows more line ends than JSON does.
    text = "" if content is None else content.decode("utf-8").replace("\r\n", "\n")
    lines = text.removeprefix(_BOM).split("\n")
    return lines if lines[-1] else lines[:-1]


def _is_secret(url: str | None) -> bool:
    return url is not None and file_of(url) is None and servers.has_credentials(url)


def _from_anywhere(server: str) -> str:
    """Return a broker's URL so that it means the same in every directory."""
    path = file_of(server)
    return server if path is None else _file_url(quote(path.as_posix(), safe="/:"), server)


def _file_url(place: str, server: str) -> str:
    query = urlsplit(server).query
    return f"sqlite:///{place}" + (f"?{query}" if query else "")


def _in_project(server: str, host: Host, machine: Machine) -> str:
    """Return a broker's URL as it means the same to all who have the project.

    Raises:
        InvalidRequest: It holds a password or token, or a path of this machine.
    """
    path = file_of(server)
    if path is None:
        if _is_secret(server):
            raise InvalidRequest(
                f"server: {shown_url(server)} has a password or token, and a project's file is for "
                f"all who have the project; leave it out, and let each set {VARIABLE}"
            )
        given = servers.parse(server)
        _refuse_paths([one for one in (given.ca, given.cert, given.key) if one is not None])
        return server
    try:
        inside = path.relative_to(machine.project.resolve())
    except ValueError:
        raise InvalidRequest(
            f"server: {server!r} is not in the project, and so it is elsewhere for others; name a "
            "file in it or a server, or leave it out for the file of each user"
        ) from None
    place = quote(inside.as_posix(), safe="/:")
    return _file_url(place if host.folder is None else f"{host.folder}/{place}", server)


def _refuse_paths(words: Sequence[str]) -> None:
    """Refuse what would lie elsewhere on another machine."""
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        if Path(value).is_absolute() or PureWindowsPath(value).is_absolute():
            raise InvalidRequest(
                f"project: {value!r} is a place on this machine, and a project's file is for all "
                "who have the project"
            )


def _refuse_private(host: Host, machine: Machine, server: str) -> None:
    """Refuse a file of which a host would see a copy of its own."""
    path = file_of(server)
    for folder in host.private_data(machine):
        if path is not None and path.is_relative_to(folder.resolve()):
            raise InvalidRequest(
                f"server: {path} lies below {folder}, of which {host.title}, as it is installed "
                "here, sees a copy of its own; let all hosts use a file elsewhere, such as "
                f"--server sqlite:///{(machine.home / 'mq9.db').as_posix()}"
            )
