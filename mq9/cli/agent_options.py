"""The options of the programs that work as an agent, ``mq9 worker`` and ``mq9 exec``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from mq9.errors import InvalidRequest


def option(type_: Any, help_: str, metavar: str | None = None, **more: Any) -> Any:
    """Return the type of an option, as typer reads it."""
    return Annotated[type_, typer.Option(help=help_, metavar=metavar, **more)]


AGENT = {
    "agent": option(str, "The agent that handles the messages.", "NAME"),
    "url": option(str | None, "Broker.  [default: one file per user]", "URL", envvar="MQ9_SERVER"),
    "mail_address": option(str | None, "Its mailbox.  [default: derived from its name]", "ADDRESS"),
    "capabilities": option(str | None, "Its skills. Others find it by them.", "TEXT"),
    "card": option(Path | None, "Its AgentCard, a JSON file.", "FILE"),
}
HANDLING = {
    "dead_letter": option(str | None, "Mailbox for dead letters.  [default: MAIL_ADDRESS.dead]"),
    "max_deliveries": option(int, "Deliveries before a failing message is a dead letter."),
    "max_deaths": option(int, "Deaths of a worker, alone with the message, before that."),
    "retry_delay": option(float, "Time until the second delivery.", "SECONDS"),
    "max_retry_delay": option(float, "Longest time between deliveries.", "SECONDS"),
    "lease": option(float, "Time until another worker takes over from a dead one.", "SECONDS"),
}


REQUIRED = inspect.Parameter.empty


def parameters(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[inspect.Parameter]:
    """Return the parameters of a command; without a default an option may be left out."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(name, keyword, default=defaults.get(name), annotation=one)
        for name, one in options.items()
    ]


def described(capabilities: str | None, card: Path | None) -> str | dict[str, Any] | None:
    """Return what an agent registers: a text, or the AgentCard in a file."""
    if card is None:
        return capabilities
    if capabilities is not None:
        raise InvalidRequest("card: --capabilities is given as well; give either")
    try:
        read = orjson.loads(card.read_bytes())
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"card: {card} is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise InvalidRequest(f"card: {card} holds no JSON object")
    return read
