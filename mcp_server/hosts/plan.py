"""Writing the server into a host's configuration, and taking it out again.

Either is planned first, so that it can be shown: a plan has read what it needs and has changed
nothing. The configuration keeps all that it held, to the letter; only our own entry is set.

Beside the configuration stands a file that says what was in the place of our entry before, for as
long as that is ours. Taking the entry out puts this back, whatever else was edited meanwhile. A
configuration that was not edited is the same again, byte for byte.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_server.hosts import json_text
from mcp_server.hosts.entry import DEFAULT_KEY, HostEntry, encoded, without_credentials
from mcp_server.hosts.host import Host, Machine, Scope
from mq9 import InvalidRequest
from mq9.address import shown

BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration as it was read."""

    path: Path
    content: bytes | None
    mark: str
    text: str

    @classmethod
    def read(cls, place: Path) -> ConfigFile:
        """Read a configuration, which need not be there."""
        try:
            path = place.resolve()
        except (OSError, RuntimeError):  # a circle of links, up to Python 3.12
            path = place
        if path.is_symlink():
            raise InvalidRequest(f"{place} is a link that leads nowhere")
        content = read(path)
        text = _decoded(path, content)
        mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
        return cls(path, content, mark, text.removeprefix(mark))

    def change(self, text: str | None, *, is_secret: bool = False) -> Change:
        """Return the change to another text, or to no file."""
        if text == self.text:
            return Change(self.path, self.content, self.content, is_secret)
        after = None if text is None else encoded(str(self.path), self.mark + text)
        return Change(self.path, self.content, after, is_secret)


@dataclass(slots=True)
class UndoFile:
    """The values in the place of our entries before they were first written."""

    path: Path
    content: bytes | None
    before: dict[str, str | None]  # by key; None where nothing stood
    made_file: bool  # there was no configuration before the first of them
    made_servers: bool  # it had no place for servers
    blank: str | None = None  # its text, where that said nothing
    # By key: what was written, and the text in the place of it.
    spliced: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, config: Path) -> UndoFile:
        """Read what lies beside a configuration."""
        path = config.with_name(f"{config.name}.mq9-undo")
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
                # Earlier releases wrote no more than this.
                blank, spliced = found.get("blank"), found.get("spliced", {})
                if (blank is None or isinstance(blank, str)) and _are_pairs(spliced):
                    return cls(path, content, before, made_file, made_servers, blank, spliced)
        raise wrong

    def change(self) -> Change:
        """Return the change to the values remembered now; without any there is no file."""
        if not self.before:
            return Change(self.path, self.content, None)
        document = {
            "before": self.before,
            "made_file": self.made_file,
            "made_servers": self.made_servers,
            "blank": self.blank,
            "spliced": self.spliced,
        }
        text = f"{json.dumps(document, indent=2)}\n"
        return Change(self.path, self.content, text.encode("ascii"))


def _decoded(path: Path, content: bytes | None) -> str:
    try:
        return (content or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8: byte {error.start} is invalid") from None


def _is_value(text: Any) -> bool:
    if text is None:
        return True
    try:
        json_text.parse(text)
    except (InvalidRequest, TypeError):
        return False
    return bool(text)


def _are_pairs(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(one, list) and [type(text) for text in one] == [str, str]
        for one in found.values()
    )


MOST_BYTES = 64 * 1024 * 1024  # of a file that is changed
_NEW_MODE = 0o600  # the settings of a server may hold a password


@dataclass(frozen=True, slots=True)
class Change:
    """The present and the future bytes of a file; None where there is no file."""

    path: Path
    before: bytes | None
    after: bytes | None
    is_secret: bool = False  # only its owner may read it then

    @property
    def is_change(self) -> bool:
        """True where the content changes, or fewer can read the file then."""
        return self.before != self.after or self.closes

    @property
    def closes(self) -> bool:
        """True where others can read the file now, and cannot then."""
        if not self.is_secret or self.before is None or os.name == "nt":
            return False
        try:
            return bool(stat.S_IMODE(self.path.stat().st_mode) & ~_NEW_MODE)
        except FileNotFoundError:  # it was removed, which is an error when the change is made
            return False

    def check(self) -> None:
        """Make sure that the file is still what it was."""
        if read(self.path) != self.before:
            raise InvalidRequest(
                f"{self.path} was changed by another program meanwhile, and was left as it is; "
                "try again"
            )

    def make(self) -> None:
        """Write or remove the file; a new or secret one can be read by its owner only."""
        if not self.is_change:
            return
        try:
            if self.after is None:
                self.check()
                self.path.unlink()
            else:
                self._replace(self.after)
        except OSError as error:
            raise InvalidRequest(
                f"{self.path} cannot be written: {error.strerror or error}"
            ) from None

    def _replace(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mode = _NEW_MODE
        if self.before is not None and not self.is_secret:
            mode = stat.S_IMODE(self.path.stat().st_mode)
        if self.before is not None and not os.access(self.path, os.W_OK):
            raise PermissionError(0, "it is read-only")  # to put another in its place would work
        with tempfile.NamedTemporaryFile(
            dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
        ) as file:
            beside = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                file.close()  # Windows moves no open files
                beside.chmod(mode)
                self.check()
                beside.replace(self.path)
            except BaseException:
                file.close()
                beside.unlink(missing_ok=True)
                raise


def read(path: Path) -> bytes | None:
    """Return the bytes of a file; None where there is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidRequest(f"{path} is not a file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > MOST_BYTES:
        raise InvalidRequest(f"{path} has more than {MOST_BYTES:,} bytes")
    return content


@dataclass(frozen=True, slots=True)
class Plan:
    """A change of a host's file, or of the file that a link there leads to.

    Attributes:
        config: The change of the file.
        undo: The change of what is remembered of it.
        is_undo: Whether it puts back what was there before.
        entry: The entry that is written; None for settings, and when one is taken out.
    """

    config: Change
    undo: Change
    is_undo: bool
    entry: HostEntry | None = None

    @property
    def path(self) -> Path:
        """The configuration."""
        return self.config.path

    @property
    def is_change(self) -> bool:
        """True where applying it changes anything."""
        return self.config.is_change or self.undo.is_change

    @property
    def diff(self) -> str:
        """The change of the configuration as ``diff -u`` shows it, without passwords and tokens."""
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
        """Change the file."""
        self.config.check()
        self.undo.check()
        # What is remembered and was not written does no harm; the reverse could not be undone.
        first, second = (self.config, self.undo) if self.is_undo else (self.undo, self.config)
        first.make()
        second.make()


def plan_install(entry: HostEntry, machine: Machine) -> Plan:
    """Plan to write an entry into the configuration of its host."""
    host = entry.host
    place = host.file(machine, entry.scope)
    config = ConfigFile.read(place)
    undo = UndoFile.read(place)
    if config.content is None and host.needs_file:
        raise InvalidRequest(
            f"{config.path} does not exist, and once it did {host.title} would take all its "
            "settings from there: write it, with the models, and try again"
        )
    try:
        old = host.text.find(config.text, entry.path)
        is_there = old is not None and entry.is_said_by(json_text.parse(old))
        changed = config.text if is_there else host.text.put(config.text, entry.path, entry.value)
        if not is_there:
            _remember(undo, config, entry, old, changed)
    except InvalidRequest as error:
        to_add = _on_one_line({host.servers_key: {entry.key: entry.value}})
        raise _left_as_it_is(config.path, error, f"add {without_credentials(to_add)}") from None
    change = config.change(changed, is_secret=entry.is_secret)
    return Plan(change, undo.change(), is_undo=False, entry=entry)


def _remember(
    undo: UndoFile, config: ConfigFile, entry: HostEntry, old: str | None, changed: str
) -> None:
    """Note what an entry takes the place of, unless it takes that of ours."""
    text = entry.host.text
    if not undo.before:
        undo.made_file = config.content is None
        undo.made_servers = text.find(config.text, entry.path[:1]) is None
        undo.blank = config.text if text.is_empty(config.text) else None
    before: str | None = config.text
    if entry.key in undo.before:
        before = _text_without(entry.host, config, undo, entry.key)
    undo.before.setdefault(entry.key, old)
    undo.spliced[entry.key] = _splice(before or "", changed)


def _splice(before: str, after: str) -> list[str]:
    """Return the part of a text that is new, and what was in the place of it."""
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    return [after[head : len(after) - tail], before[head : len(before) - tail]]


def _common(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def plan_undo(
    host: Host, machine: Machine, *, key: str = DEFAULT_KEY, scope: Scope = "user"
) -> Plan:
    """Plan to put back what was in the place of our entry before it was first written."""
    place = host.file(machine, scope)
    config = ConfigFile.read(place)
    undo = UndoFile.read(place)
    if key not in undo.before:
        raise InvalidRequest(
            f"undo: nothing to undo for {shown(key)} in {config.path}; mq9-mcp install did "
            "not write it, or it was undone before"
        )
    old = undo.before[key]
    try:
        changed = _text_without(host, config, undo, key)
    except InvalidRequest as error:
        value = "" if old is None else _on_one_line(json_text.parse(old))
        to_do = f"let {key} be {value}" if value else f"take {key} out"
        raise _left_as_it_is(config.path, error, to_do) from None
    del undo.before[key]
    undo.spliced.pop(key, None)
    return Plan(config.change(changed), undo.change(), is_undo=True)


def _text_without(host: Host, config: ConfigFile, undo: UndoFile, key: str) -> str | None:
    """Return the configuration as if our entry had not been written; None for no file."""
    servers = (host.servers_key,)
    old = undo.before[key]
    if old is not None:
        changed = host.text.put(config.text, (*servers, key), old)
    else:
        changed = host.text.drop(config.text, (*servers, key))
        if undo.made_servers and host.text.is_empty(changed, servers):
            changed = host.text.drop(changed, servers)
        if host.text.is_empty(changed):
            is_no_file = config.content is None or undo.made_file
            return None if is_no_file else changed if undo.blank is None else undo.blank
    written, was = undo.spliced.get(key, ["", ""])
    if config.text.count(written) != 1:
        return changed
    back = config.text.replace(written, was)
    return back if _means_the_same(host, back, changed) else changed


def _means_the_same(host: Host, one: str, other: str) -> bool:
    try:
        return bool(host.text.parse(one) == host.text.parse(other))
    except InvalidRequest:
        return False


def _left_as_it_is(path: Path, error: InvalidRequest, to_do: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: {error}. It was left as it is; edit it by hand, and {to_do}")


def _on_one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(content: bytes | None) -> list[str]:
    # Not splitlines(): it knows more line ends than JSON does.
    text = "" if content is None else content.decode("utf-8").replace("\r\n", "\n")
    lines = text.removeprefix(BYTE_ORDER_MARK).split("\n")
    return lines if lines[-1] else lines[:-1]
