"""The command line and standard input, read before the libraries are loaded that they are for."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from io import StringIO, TextIOWrapper
from pathlib import Path
from threading import Lock, Semaphore, Thread
from typing import BinaryIO, NamedTuple, NoReturn, TextIO

from mcp_server.options import FIELDS, FOR_STDIO, LOG_LEVELS, Options, flag, takes_value
from mcp_server.settings import AUTO, Settings
from mcp_server.startup.answers import Answers, EarlyResponder
from mq9.errors import InvalidRequest
from mq9.operations.identity import Identity

_DIGITS = re.compile("[0-9]{1,9}")
PLAIN_URL = re.compile(
    r"sqlite:///(?!~|%7[eE])(?:[\w/.:~-]|%[1-9a-fA-F][0-9a-fA-F])+"
    r"|(?:nats|tls)://(?:[\w.%~-]+(?::[\w.%~-]+)?@)?[a-z0-9][a-z0-9.-]*"
    r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?",
    re.ASCII,
)


class Start(NamedTuple):
    """The settings and the agent that the program is started with."""

    settings: Settings
    identity: Identity | None  # None when the host's first request says who it is


class _Doubt(Exception):
    """The command line may not be valid."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Doubt(message)


def understood(arguments: Sequence[str], environment: Mapping[str, str]) -> Start | None:
    """Return what a command line means that serves standard input and output; None in doubt."""
    try:
        options = Options(**vars(_parser().parse_args(arguments)))
        agent, url = options.agent, options.server
        if agent is None:
            agent = environment.get("MQ9_AGENT")
        if url is None:
            url = environment.get("MQ9_SERVER") or None
        if agent is None or not (url is None or PLAIN_URL.fullmatch(url)):
            return None
        settings = options.settings()
        if agent == AUTO:
            return None if options.mail_address is not None else Start(settings, None)
        return Start(settings, settings.identity(agent, options.mail_address))
    except (_Doubt, InvalidRequest):
        return None


def begin(arguments: Sequence[str], environment: Mapping[str, str]) -> StdinReader | None:
    """Answer the first requests on standard input, if that is served, until the SDK takes over."""
    start = None if sys.stdin is None else understood(arguments, environment)
    if start is None:
        return None
    answers = Answers(start.settings, start.identity)
    if not is_installed(answers.sdk):
        return None
    # Python would wait at Ctrl-C for the thread that reads, and so for a line that may not come.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    reader = read_standard_input(EarlyResponder(answers))
    reader.start()
    return reader


def is_installed(version: str) -> bool:
    """Tell whether a version of the MCP SDK is installed beyond doubt, without loading it."""
    found = find_spec("mcp")
    if found is None or found.origin is None:
        return False
    return Path(found.origin).parents[1].joinpath(f"mcp-{version}.dist-info").is_dir()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name in FOR_STDIO:
        kind = FIELDS[name].type
        if not takes_value(name):
            parser.add_argument(flag(name), action="store_true")
        elif kind in {"int", "int | None"}:
            parser.add_argument(flag(name), type=_whole)
        elif kind == "list[str] | None":
            parser.add_argument(flag(name), action="append")
        else:
            parser.add_argument(flag(name), choices=LOG_LEVELS if name == "log_level" else None)
    return parser


def _whole(text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise _Doubt(text)
    return int(text)


_logger = logging.getLogger("mq9.mcp")

_MAX_KEPT_LINES = 20  # that were read and not taken yet


class StdinReader:
    """Reads lines in a thread of its own, answers the first requests and keeps the other lines."""

    def __init__(
        self, responder: EarlyResponder | None, reading: TextIO, writing: BinaryIO
    ) -> None:
        self._responder = responder
        self._reading = reading
        self._writing = writing
        self._lines = deque[str]()
        self._room = Semaphore(_MAX_KEPT_LINES)
        self._lock = Lock()  # held while a line is answered or kept
        self._wake: Callable[[], None] | None = None  # once the SDK has taken over
        self._has_ended = False

    def start(self) -> None:
        """Begin to read."""
        # It may wait for a line when the program ends.
        Thread(target=self._read, name="mq9-mcp standard input", daemon=True).start()

    def take_over(self, wake: Callable[[], None]) -> None:
        """Answer nothing from now on: the SDK does. ``wake`` is called in any thread."""
        with self._lock:
            self._wake = wake

    @property
    def listening(self) -> set[int | str]:
        """The ids of the requests to listen that were acknowledged here."""
        return set() if self._responder is None else self._responder.listening

    def take(self) -> str | None:
        """Return the next line that was not answered; empty at the end, and None while none is."""
        if self._has_ended:
            return ""
        if not self._lines:
            return None
        self._room.release()
        return self._lines.popleft()

    def end(self) -> None:
        """Read no more: the input has ended."""
        self._has_ended = True
        if self._wake is not None:
            self._wake()

    def _read(self) -> None:
        try:
            while line := self._reading.readline():
                kept = self._answer(line)
                if kept is not None:
                    self._keep(kept)
        except OSError as error:  # the client has closed its end
            _logger.warning("%s", error)
        self._keep("")

    def _keep(self, line: str) -> None:
        self._room.acquire()
        with self._lock:
            self._lines.append(line)
            if self._wake is not None:
                self._wake()

    def _answer(self, line: str) -> str | None:
        """Answer a line, if that is possible; return what the SDK is to read of it, if anything."""
        with self._lock:
            if self._wake is not None or self._responder is None:
                return line
            answer, kept = self._responder.respond(line)
            if answer is not None:
                self._writing.write(answer)
                self._writing.flush()
            return kept


def read_standard_input(responder: EarlyResponder | None) -> StdinReader:
    """Return a reader of standard input, which nothing else in this process reads from then on."""
    if sys.stdin is None:
        return StdinReader(responder, StringIO(), sys.stdout.buffer)
    wire = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    # It is not closed: a thread may be reading it to the end.
    reading = os.fdopen(wire, "rb", closefd=False)
    return StdinReader(
        responder, TextIOWrapper(reading, encoding="utf-8", errors="replace"), sys.stdout.buffer
    )
