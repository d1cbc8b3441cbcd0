"""Logs as text or JSON, one line for each event, on standard error.

An event is an ordinary call of a logger. Its fields are in ``extra``::

    logger.info("client connected", extra={"client": 7, "agent": "ada"})

Clients choose names and subjects. Unprintable characters in them are escaped, so that no client can
forge a line or control a terminal. The formatters build on the standard library's logging:
structlog would need the same escaping, and as many lines to set up.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from mq9.address import shown
from mq9.errors import InvalidRequest
from mq9.printable import one_line

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")

# What every record has; the rest came with `extra`.
_STANDARD = {*vars(logging.makeLogRecord({})), "asctime", "message", "taskName"}
_PLAIN = re.compile(r"[^\s\"=\\]+")  # needs no quotes in the text format
_INT64 = 1 << 63


def configure_by_variables(default_level: str) -> None:
    """Configure the log of a command by ``MQ9_LOG_LEVEL`` and ``MQ9_LOG_FORMAT``."""
    configure_logging(
        os.environ.get("MQ9_LOG_LEVEL") or default_level,
        os.environ.get("MQ9_LOG_FORMAT") or "text",
    )


def configure_logging(
    level: str = "info", log_format: str = "text", *, stream: TextIO | None = None
) -> None:
    """Write the log of this process as ``mq9 serve`` and ``mq9 worker`` write theirs.

    Call it once, in a program. Each event is one line. Loggers below ``mq9`` log from ``level`` on,
    and all others from warnings on: ``logging.getLogger(name).setLevel`` changes that. A second
    call replaces the first one. Other handlers stay.

    Args:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        log_format: ``text`` for people, or ``json``: one object for each line, with ``time`` (UTC),
            ``level``, ``logger``, ``message``, and the fields of ``extra``.
        stream: Where to write. Default: standard error.

    Raises:
        InvalidRequest: The level or the format is unknown.

    Example:
        ```python
        mq9.configure_logging("info", "json")
        logging.getLogger("mq9").info("mail sent", extra={"mailbox": "ada"})
        ```
    """
    if level.lower() not in LEVELS:
        raise InvalidRequest(f"log_level: {shown(level)} is not one of {', '.join(LEVELS)}")
    if log_format not in FORMATS:
        raise InvalidRequest(f"log_format: {shown(log_format)} is not one of {', '.join(FORMATS)}")
    handler = _Handler(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _Handler):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("mq9").setLevel(level.upper())


class _Handler(logging.Handler):
    """The handler of a program."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of one event."""
        stream = self._stream or sys.stderr
        try:
            stream.write(f"{self.format(record)}\n")
            stream.flush()
        except Exception:  # noqa: BLE001  # as every handler: logging must not end a program
            self.handleError(record)


class TextFormatter(logging.Formatter):
    """Writes ``time LEVEL logger: message key=value … | traceback``, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one event."""
        message = one_line(record.getMessage())
        words = [f"{_time(record)} {record.levelname:<7} {record.name}: {message}"]
        words += [f"{key}={_quoted(value)}" for key, value in _fields(record).items()]
        words += [f"| {line.strip()}" for line in _exception(self, record)]
        return " ".join(words)


class JsonFormatter(logging.Formatter):
    """Writes a JSON object, for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one event."""
        event: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(record.getMessage()),
        }
        for key, value in _fields(record).items():
            event[f"{key}_" if key in event or key == "exception" else key] = value
        if exception := _exception(self, record):
            event["exception"] = "\n".join(exception)
        return orjson.dumps(event).decode()


def _time(record: logging.LogRecord) -> str:
    instant = datetime.fromtimestamp(record.created, UTC)
    return instant.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of ``extra`` that have a value."""
    return {
        one_line(key): _simple(value)
        for key, value in vars(record).items()
        if key not in _STANDARD and value is not None
    }


def _simple(value: object) -> bool | int | float | str:
    """Return something that JSON holds unchanged."""
    if isinstance(value, bool | float) or (type(value) is int and -_INT64 <= value < _INT64):
        return value
    return one_line(value)


def _quoted(value: bool | int | float | str) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """Return the lines of the exception, and of the stack."""
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return [one_line(line) for part in parts for line in part.split("\n")]
