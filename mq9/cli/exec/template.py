"""The command as it was typed, with places for a file and for an earlier session."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from mq9.errors import InvalidRequest

FILE, SESSION = "{file}", "{session}"
_BEGIN, _END = "[", "]"


class Template:
    """The arguments of a command.

    ``{file}`` stands for a file with the body. Arguments between ``[`` and ``]`` with ``{session}``
    among them are left out where no earlier session of the conversation is known.

    Args:
        words: The program and its arguments.
        reads_file: Whether the body comes by a file; None where the words say so.

    Raises:
        InvalidRequest: The program was not found, or a place is missing.
    """

    def __init__(self, words: Sequence[str], *, reads_file: bool | None = None) -> None:
        if not words:
            raise InvalidRequest("command: none is given; put it behind --")
        if shutil.which(words[0]) is None:
            raise InvalidRequest(
                f"command: program {words[0]!r} was not found in PATH; give its full path"
            )
        self._parts = _parts(words)
        names_file = any(FILE in one for one in words)
        self.reads_file = names_file if reads_file is None else reads_file
        if self.reads_file and not names_file:
            raise InvalidRequest("input: with `file`, write {file} where the command reads it")
        for is_optional, part in self._parts:
            if not is_optional and any(SESSION in one for one in part):
                raise InvalidRequest(
                    "command: put the arguments with {session} between [ and ], which are left out "
                    "where there is no earlier session"
                )
        self.has_sessions = any(is_optional for is_optional, _ in self._parts)

    def arguments(self, *, file: Path | None, session: str | None) -> list[str]:
        """Return the program and its arguments for one message."""
        words = [
            word
            for is_optional, part in self._parts
            if session is not None or not is_optional
            for word in part
        ]
        if session is not None:
            words = [word.replace(SESSION, session) for word in words]
        if self.reads_file:
            words = [word.replace(FILE, str(file)) for word in words]
        return words


def _parts(words: Sequence[str]) -> list[tuple[bool, list[str]]]:
    """Divide words into parts, each with whether it needs an earlier session."""
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    left = list(words)
    while left:
        word = left.pop(0)
        inner = left[: left.index(_END)] if word == _BEGIN and _END in left else []
        if any(SESSION in one for one in inner):
            parts += [(True, inner), (False, [])]
            del left[: len(inner) + 1]
        else:
            parts[-1][1].append(word)
    return parts
