"""The configuration of a host, and beside it the file that says how to undo what we wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_server.hosts.config import json_text
from mcp_server.hosts.config.changes import Change, read, without_links
from mq9 import InvalidRequest
from mq9.address import shown

BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration as it was read.

    Attributes:
        path: The file itself, not a link to it.
        content: Its bytes; None where there is no file.
        mark: The byte order mark that it begins with; empty where it has none.
        text: Its text behind that.
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
        path: The file that says so.
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
