"""The configuration of a host, and beside it the file that says how to undo what we wrote."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_server.hosts import json_text
from mq9 import InvalidRequest
from mq9.address import shown

BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration as it was read.

    Attributes:
        content: Its bytes; None where there is no file.
        mark: The byte order mark that it begins with; empty where it has none.
    """

    path: Path
    content: bytes | None
    mark: str
    text: str

    @classmethod
    def read(cls, place: Path) -> ConfigFile:
        """Read a configuration, which need not be there.

        Raises:
            InvalidRequest: It cannot be read, or is not UTF-8.
        """
        path = without_links(place)
        content = read(path)
        text = _decoded(path, content)
        mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
        return cls(path, content, mark, text.removeprefix(mark))

    def change(self, text: str | None, *, is_secret: bool = False) -> Change:
        """Return the change to another text, or to no file.

        Raises:
            InvalidRequest: The text cannot be written as UTF-8.
        """
        if text == self.text:
            return Change(self.path, self.content, self.content, is_secret)
        after = None if text is None else encoded(str(self.path), self.mark + text)
        return Change(self.path, self.content, after, is_secret)


@dataclass(slots=True)
class UndoFile:
    """What was in the place of our entries before they were first written.

    Attributes:
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
    def read(cls, config: Path) -> UndoFile:
        """Read what lies beside a configuration.

        Raises:
            InvalidRequest: It is not what was written there.
        """
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
                return cls(path, content, before, made_file, made_servers)
        raise wrong

    def change(self) -> Change:
        """Return the change to what is to be remembered now; no file where that is nothing."""
        if not self.before:
            return Change(self.path, self.content, None)
        document = {
            "before": self.before,
            "made_file": self.made_file,
            "made_servers": self.made_servers,
        }
        text = f"{json.dumps(document, indent=2)}\n"
        return Change(self.path, self.content, text.encode("ascii"))


def encoded(what: str, text: str) -> bytes:
    """Return a text as UTF-8.

    Raises:
        InvalidRequest: It has half a character; the error names ``what`` it is.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{what}: {shown(text[error.start : error.end])} cannot be written as UTF-8"
        ) from None


def _decoded(path: Path, content: bytes | None) -> str:
    try:
        return (content or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8: byte {error.start} is no part of it") from None


def _is_value(text: Any) -> bool:
    if text is None:
        return True
    try:
        json_text.parse(text)
    except (InvalidRequest, TypeError):
        return False
    return True


MOST_BYTES = 64 * 1024 * 1024  # of a file that is changed
_NEW_MODE = 0o600  # the settings of a server may hold a password


@dataclass(frozen=True, slots=True)
class Change:
    """What a file holds, and what it is to hold; None where there is no file.

    Attributes:
        before: Its bytes when it was looked at.
        after: The bytes that it is to hold.
        is_secret: Whether only its owner may read it then.
    """

    path: Path
    before: bytes | None
    after: bytes | None
    is_secret: bool = False

    @property
    def is_change(self) -> bool:
        """Whether the file is to be another than it was, or to be read by fewer."""
        return self.before != self.after or self.closes

    @property
    def closes(self) -> bool:
        """Whether others can read the file now, and cannot then."""
        if not self.is_secret or self.before is None or os.name == "nt":
            return False
        try:
            return bool(stat.S_IMODE(self.path.stat().st_mode) & ~_NEW_MODE)
        except FileNotFoundError:  # it was removed, which is an error when the change is made
            return False

    def check(self) -> None:
        """Make sure that the file is still what it was.

        Raises:
            InvalidRequest: It is not, or it cannot be read.
        """
        if read(self.path) != self.before:
            raise InvalidRequest(
                f"{self.path} was changed by another program meanwhile, and was left as it is; "
                "try again"
            )

    def make(self) -> None:
        """Write or remove the file, if that changes anything.

        It keeps its mode, unless it becomes secret; a new one can be read by its owner only. What
        directories are missing are made.

        Raises:
            InvalidRequest: It is not what it was any more, or it cannot be written. It was left as
                it is.
        """
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
    """Return the bytes of a file; None where there is none.

    Raises:
        InvalidRequest: It is no file, it cannot be read, or it has more than ``MOST_BYTES``.
    """
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


def without_links(path: Path) -> Path:
    """Return the file that a path leads to in the end, whether it is there or not."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the latter up to Python 3.12
        raise InvalidRequest(f"{path} is a link that leads nowhere") from None
