"""The command line, read and served before the libraries are loaded that it is made with.

Only what is valid beyond doubt is understood here. Everything else is left to ``mcp_server.cli``,
which says what is wrong with it.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from mcp_server.options import FIELDS, FOR_STDIO, LOG_LEVELS, Options, flag, takes_value
from mcp_server.settings import AUTO, Settings
from mcp_server.startup.answers import Answers
from mcp_server.startup.early_responder import EarlyResponder
from mcp_server.startup.stdin_reader import StdinReader, read_standard_input
from mq9.errors import InvalidRequest
from mq9.operations.identity import Identity

_DIGITS = re.compile("[0-9]{1,9}")
PLAIN_URL = re.compile(
    r"sqlite:///(?!~|%7[eE])(?:[\w/.:~-]|%[1-9a-fA-F][0-9a-fA-F])+"
    r"|(?:nats|tls)://(?:[\w.%~-]+(?::[\w.%~-]+)?@)?[a-z0-9][a-z0-9.-]*"
    r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Start:
    """What the program is started with.

    Attributes:
        settings: What is offered.
        identity: The agent that the host is; None when its first request says that.
    """

    settings: Settings
    identity: Identity | None


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
    """Answer the first requests on standard input, if that is served, until the SDK takes over.

    Args:
        arguments: The command line.
        environment: The environment variables.

    Returns:
        What reads standard input; None where nothing is answered here.
    """
    start = None if sys.stdin is None else understood(arguments, environment)
    if start is None:
        return None
    answers = Answers(start.settings, start.identity)
    if not is_installed(answers.sdk):
        return None
    let_interrupts_end_it()
    reader = read_standard_input(EarlyResponder(answers))
    reader.start()
    return reader


def is_installed(version: str) -> bool:
    """Tell whether a version of the MCP SDK is installed, without loading the SDK.

    It is not, where that is in doubt: without the directory that installers make beside the SDK.
    """
    found = find_spec("mcp")
    if found is None or found.origin is None:
        return False
    return Path(found.origin).parents[1].joinpath(f"mcp-{version}.dist-info").is_dir()


def let_interrupts_end_it() -> None:
    """Let Ctrl-C end the program at once, until the SDK is loaded, unless it is ignored.

    Python would wait for the thread that reads, and so for the next line, which may not come.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name in FOR_STDIO:
        kind = FIELDS[name].type
        if not takes_value(name):
            parser.add_argument(flag(name), action="store_true")
        elif kind == "int":
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
