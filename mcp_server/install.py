"""Writing the server into a host's configuration, and taking it out again.

Either is planned first, so that it can be shown: a plan has read what it needs and has changed
nothing. The configuration keeps all that it held, to the letter; only our own entry is set.

Beside the configuration stands a file that says what was in the place of our entry before, for as
long as that is ours. Taking the entry out puts this back, whatever else was edited meanwhile.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from mcp_server import json_text
from mcp_server.changes import Change, read, without_links
from mcp_server.hosts import Host, Machine, Scope
from mq9 import InvalidRequest
from mq9.address import shown
from mq9.operations import Identity
from mq9.transport.open import VARIABLE, file_of

DEFAULT_KEY = "mq9"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every host takes as the name of a server
PROGRAM = "mq9-mcp"
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a host has to know of the server.

    Attributes:
        host: Who is to start it.
        key: What the host calls it.
        value: The command, its arguments and its environment.
    """

    host: Host
    key: str
    value: Mapping[str, Any]

    @property
    def path(self) -> tuple[str, str]:
        """Where the entry stands in the host's configuration."""
        return self.host.servers_key, self.key

    @property
    def text(self) -> str:
        """The entry with all that it stands in, to be pasted into the configuration."""
        return json_text.put("", self.path, self.value)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a host's configuration.

    Attributes:
        host: Whose configuration it is.
        config: The change to the configuration. Where this is a link, to what it leads to.
        memory: The change to what is remembered beside it.
        entry: What is to be written; None when it is to be taken out.
    """

    host: Host
    config: Change
    memory: Change
    entry: Entry | None

    @property
    def path(self) -> Path:
        """The configuration."""
        return self.config.path

    @property
    def is_change(self) -> bool:
        """Whether applying it changes anything."""
        return self.config.is_change or self.memory.is_change

    @property
    def diff(self) -> str:
        """What changes in the configuration, as ``diff -u`` shows it; empty where nothing does."""
        before, after = self.config.before, self.config.after
        lines = difflib.unified_diff(
            _lines(before),
            _lines(after),
            "(no file)" if before is None else f"{self.path} (now)",
            "(no file)" if after is None else f"{self.path} (then)",
            lineterm="",
        )
        return "\n".join(lines)

    def apply(self) -> None:
        """Do it.

        Raises:
            InvalidRequest: A file was changed since, or cannot be written. The configuration was
                left as it is.
        """
        self.config.check()
        self.memory.check()
        # What is remembered and was not written does no harm; the reverse could not be undone.
        for one in (self.config, self.memory) if self.entry is None else (self.memory, self.config):
            one.make()


def make_entry(
    host: Host,
    machine: Machine,
    *,
    agent: str | None = None,
    mail_address: str | None = None,
    server: str | None = None,
    options: Sequence[str] = (),
    key: str = DEFAULT_KEY,
    python: str = sys.executable,
) -> Entry:
    """Return what a host has to know of the server.

    Args:
        host: Who is to start it.
        machine: Where the host runs.
        agent: The agent's name; that of the host by default.
        mail_address: Its mailbox; the slug of its name when not given.
        server: The URL of the broker; without one, the server finds it as all programs of mq9 do. A
            path in it is made absolute, as the host starts programs in a directory of its own.
        options: Further options of ``mq9-mcp``.
        key: What the host is to call the server: 1 to 64 of a-z, A-Z, 0-9, ``_`` and ``-``.
        python: The running Python, beside which the program is looked for first.

    Raises:
        InvalidRequest: The name, the URL or the key is not one, or there is no ``mq9-mcp``.
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest(f"key: {shown(key)} is not 1 to 64 of a-z, A-Z, 0-9, '_' and '-'")
    name = Identity(host.name if agent is None else agent, mail_address=mail_address).name
    own = [] if mail_address is None else ["--mail-address", mail_address]
    command = find_command(machine, python)
    value: dict[str, Any] = {"type": "stdio"} if host.has_type else {}
    value |= {"command": str(command), "args": ["--agent", name, *own, *options]}
    if server is not None:
        value["env"] = {VARIABLE: _from_anywhere(server)}
    entry = Entry(host, key, value)
    _encoded("entry", entry.text)
    return entry


def find_command(machine: Machine, python: str = sys.executable) -> Path:
    """Return the absolute path of ``mq9-mcp``: the one beside the running Python, else on PATH.

    Args:
        machine: Where it is to run.
        python: The running Python. In a virtual environment it is a link, which is not followed:
            the environment's programs lie beside the link.

    Raises:
        InvalidRequest: It is in neither place.
    """
    name = f"{PROGRAM}.exe" if machine.platform == "win32" else PROGRAM
    on_path = machine.environment.get("PATH", "").split(os.pathsep)
    for folder in (Path(python).parent, *map(Path, on_path)):
        command = folder / name
        # A relative directory would be another one for the host.
        if folder.is_absolute() and command.is_file() and os.access(command, os.X_OK):
            return command
    raise InvalidRequest(
        f"command: there is no {name} beside {python} or on PATH; in the clone, "
        "pip install '.[mcp]'"
    )


def plan_install(entry: Entry, machine: Machine, *, scope: Scope = "user") -> Plan:
    """Plan to write an entry into the configuration of its host.

    Args:
        entry: What is to stand there.
        machine: Where the host runs.
        scope: ``user`` for all that this user does, ``project`` for one project.

    Raises:
        InvalidRequest: The host has no such scope, or its configuration cannot be read or is not
            strict JSON; the error then holds what to paste into it.
    """
    place = entry.host.file(machine, scope)
    config = _Document.read(place)
    memory = _Memory.read(place)
    try:
        old = json_text.find(config.text, entry.path)
        changed = json_text.put(config.text, entry.path, entry.value)
        had_servers = json_text.find(config.text, entry.path[:1]) is not None
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{config.path}: {error}. It was left as it is; edit it by hand, and add "
            + _on_one_line({entry.host.servers_key: {entry.key: entry.value}})
        ) from None
    if old is not None and json.loads(old) == entry.value:
        changed = config.text
    elif not memory.before:
        memory.made_file = config.content is None
        memory.made_servers = not had_servers
    if changed != config.text:
        memory.before.setdefault(entry.key, old)
    return Plan(entry.host, config.change(changed), memory.change(), entry)


def plan_undo(
    host: Host, machine: Machine, *, key: str = DEFAULT_KEY, scope: Scope = "user"
) -> Plan:
    """Plan to put back what was in the place of our entry before it was first written.

    Args:
        host: Whose configuration it is in.
        machine: Where the host runs.
        key: What the host calls the server.
        scope: As it was when the entry was written.

    Raises:
        InvalidRequest: Nothing is remembered, the host has no such scope, or its configuration
            cannot be read or is not strict JSON.
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
    servers = (host.servers_key,)
    changed: str | None
    try:
        if old is not None:
            changed = json_text.put(config.text, (*servers, key), old)
        else:
            changed = json_text.drop(config.text, (*servers, key))
            if memory.made_servers and json_text.is_empty(changed, servers):
                changed = json_text.drop(changed, servers)
            if config.content is None or (memory.made_file and json_text.is_empty(changed)):
                changed = None
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{config.path}: {error}. It was left as it is; edit it by hand, and "
            + (
                f"take {key} out"
                if old is None
                else f"let {key} be {_on_one_line(json.loads(old))}"
            )
        ) from None
    return Plan(host, config.change(changed), memory.change(), None)


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

    def change(self, text: str | None) -> Change:
        if text == self.text:
            return Change(self.path, self.content, self.content)
        after = None if text is None else _encoded(str(self.path), self.mark + text)
        return Change(self.path, self.content, after)


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


def _from_anywhere(server: str) -> str:
    """Return a broker's URL so that it means the same in every directory."""
    path = file_of(server)
    if path is None:
        return server
    query = urlsplit(server).query
    return f"sqlite:///{quote(path.as_posix(), safe='/:')}" + (f"?{query}" if query else "")
