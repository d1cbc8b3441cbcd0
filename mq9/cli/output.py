"""Output of the commands: text for people, tables for terminals, one JSON document for programs.

Bodies, names and descriptions are text of others. Control characters, escape sequences and marks
that turn the direction of writing are shown as Python or JSON would escape them.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

import typer

from mq9.printable import harmless, one_line

_LONG_S = 1.0
_WORD = re.compile(r"[\w.@:/+…-]+")


class PipeClosed(Exception):
    """The reader of the output has closed it."""


class CannotWrite(Exception):
    """The output cannot be written; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to be shown below each other."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Output:
    """The output of a command."""

    def __init__(
        self,
        *,
        as_json: bool,
        stream: TextIO | None = None,
        notices: TextIO | None = None,
        is_terminal: bool | None = None,
    ) -> None:
        self.as_json = as_json
        self._stream = sys.stdout if stream is None else stream
        self._notices = sys.stderr if notices is None else notices
        self._warnings: list[str] = []
        self._is_terminal = self._stream.isatty() if is_terminal is None else is_terminal

    def show(self, document: dict[str, Any], *parts: str | Table) -> None:
        """Print the answer: ``document`` for programs, ``parts`` for people."""
        if self.as_json:
            if self._warnings:
                document = {**document, "warnings": self._warnings}
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            self._write(as_json(document, in_ascii=encoding.lower() != "utf-8"))
            return
        for part in parts:
            self._write(self._drawn(part) if isinstance(part, Table) else harmless(part))

    def say(self, line: str) -> None:
        """Print a line for people at once, in case the rest fails."""
        if not self.as_json:
            self.show({}, line)

    def notice(self, text: str, label: str = "") -> None:
        """Print a notice for people, which is not part of the answer."""
        if not self.as_json:
            self._notices.write(f"{label}{harmless(text)}\n")
            self._notices.flush()

    def warn(self, text: str) -> None:
        """Warn of a risk although the command succeeds; programs read it in the answer."""
        if self.as_json:
            self._warnings.append(text)
        else:
            self.notice(text, coloured("warning: ", "yellow", self._notices))

    @contextmanager
    def working(self, text: str, seconds: float = _LONG_S) -> Iterator[None]:
        """Show on a terminal that the command works or waits, and for how long.

        Args:
            text: What the command does.
            seconds: The expected duration; less than a second is not shown. Default: long.
        """
        if self.as_json or seconds < _LONG_S or not self._notices.isatty():
            yield
            return
        from rich import progress  # noqa: PLC0415  # only terminals need it
        from rich.console import Console  # noqa: PLC0415  # only terminals need it

        columns = (
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.TimeElapsedColumn(),
        )
        with progress.Progress(
            *columns,
            console=Console(file=self._notices),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as shown:
            shown.add_task(harmless(text), total=None)
            yield

    def _write(self, text: str) -> None:
        raw = getattr(self._stream, "buffer", None)
        try:
            if isinstance(raw, io.RawIOBase):  # unbuffered, and so it may take a part only
                data = memoryview(f"{text}\n".encode(self._stream.encoding, "backslashreplace"))
                while data:
                    data = data[raw.write(data) or 0 :]
            else:
                self._stream.write(f"{text}\n")
                self._stream.flush()
        except BrokenPipeError:
            raise PipeClosed from None
        except OSError as error:
            raise CannotWrite(f"the output cannot be written: {error.strerror}") from None

    def _drawn(self, table: Table) -> str:
        rows = [[one_line(cell) for cell in row] for row in table.rows]
        return _boxed(table.columns, rows) if self._is_terminal else _aligned(table.columns, rows)


def _boxed(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table as wide as the terminal; long cells continue on the next line."""
    from rich import box, table, text  # noqa: PLC0415  # only terminals need it
    from rich.console import Console  # noqa: PLC0415

    drawn = table.Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*map(text.Text, row))
    console = Console(force_terminal=True)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip("\n")


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table with columns as wide as needed, two spaces between them."""
    from rich.cells import cell_len  # noqa: PLC0415  # loaded late, for a quick start

    lines = [columns, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """Return a text in a colour, if the stream is a terminal and NO_COLOR is not set."""
    is_plain = os.environ.get("NO_COLOR") or not stream.isatty()
    return text if is_plain else typer.style(text, fg=colour)


def quoted(value: object) -> str:
    """Return a name unchanged if it is one word, else quoted and escaped."""
    text = str(value)
    return text if _WORD.fullmatch(text) else repr(text)


def as_json(document: Any, *, in_ascii: bool = False) -> str:
    """Write a document as one line of printable characters."""
    text = json.dumps(document, ensure_ascii=in_ascii)
    if text.isprintable():
        return text
    # Unprintable characters occur only inside strings, where they may be escaped.
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text).replace(
        "\x7f", r"\u007f"
    )


def body(payload: bytes) -> str:
    """Return a message's body for people: its text, or base64."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        encoded = base64.b64encode(payload).decode("ascii")
        return f"({len(payload)} bytes that are not text, in base64)\n{encoded}"
    return text.replace("\r\n", "\n") if text else "(empty)"


def indented(text: str) -> str:
    """Return a text with four spaces before each line."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def when(seconds: float) -> str:
    """Return a Unix time as a date and time in the local time zone."""
    try:
        instant = datetime.fromtimestamp(seconds, UTC).astimezone()
    except (OverflowError, OSError, ValueError):  # a broker may send any number
        return f"{seconds} (Unix time)"
    return f"{instant:%Y-%m-%d %H:%M:%S}"


def moment(instant: float, now: float) -> str:
    """Return a Unix time, and its distance from now."""
    return f"{when(instant)} ({distance(instant, now)})"


def distance(instant: float, now: float) -> str:
    """Return the distance of a Unix time from now: `in 3 min`, `3 min ago`."""
    return f"{span(now - instant)} ago" if instant < now else f"in {span(instant - now)}"


_RANDOM = re.compile(r"(.*?)([0-9a-f]{6})[0-9a-f]{10,}")


def short(consumer: str) -> str:
    """Return the name of a consumer for people: a random part is cut to six digits."""
    found = _RANDOM.fullmatch(consumer)
    return quoted(consumer if found is None else f"{found[1]}{found[2]}…")


def known_as(name: str, is_verified: bool) -> str:
    """Return the name of an agent, and whether the broker has authenticated it."""
    return f"{quoted(name)} ({'verified' if is_verified else 'claimed'})"


def span(seconds: float) -> str:
    """Return a duration in a fitting unit."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def stop_writing() -> None:
    """Discard the rest of standard output, so that Python reports no error for it at exit."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
