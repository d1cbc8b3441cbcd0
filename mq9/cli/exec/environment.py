"""The variables of a command: those of this process, and what its message says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mq9.models import Message
from mq9.transport import servers

_OWN = ("MQ9_", "NATS_")  # what such variables say of the broker is not the command's
_HEADER = "MQ9_HEADER_"
_UNUSUAL = re.compile(r"[^A-Z0-9_]")


def variables(
    message: Message,
    *,
    agent: str,
    server: str,
    conversation: str,
    session_file: Path | None = None,
    inherited: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return all variables of the command for a message.

    Args:
        message: The message.
        agent: The agent that the command works as.
        server: The URL of the broker, whose credentials are left out.
        conversation: The conversation of the message.
        session_file: Where the command leaves the id of its session.
        inherited: The variables of this process.
    """
    own = {
        "MQ9_AGENT": agent,
        "MQ9_ANSWER_BY": "" if message.answer_by is None else str(message.answer_by),
        "MQ9_CONVERSATION": conversation,
        "MQ9_CORRELATION_ID": message.correlation_id or "",
        "MQ9_DELIVERY": str(message.delivery_count),
        "MQ9_MAIL_ADDRESS": message.mail_address,
        "MQ9_MSG_ID": str(message.msg_id),
        "MQ9_PRIORITY": str(message.priority),
        "MQ9_REPLY_TO": message.reply_to or "",
        "MQ9_SENDER": message.sender or "",
        "MQ9_SENDER_VERIFIED": "true" if message.sender_verified else "false",
        "MQ9_SERVER": _without_credentials(server),
    }
    if session_file is not None:
        own["MQ9_SESSION_FILE"] = str(session_file)
    for name, value in message.headers.items():
        own[_HEADER + _UNUSUAL.sub("_", name.upper())] = value
    plain = {name: value.replace("\0", "\N{REPLACEMENT CHARACTER}") for name, value in own.items()}
    kept = {name: value for name, value in inherited.items() if not name.startswith(_OWN)}
    return kept | plain


def _without_credentials(url: str) -> str:
    """Return the URL of a broker without user, password, token and certificate."""
    if url.partition("://")[0].lower() not in servers.SCHEMES:
        return url
    return ",".join(one.url for one in servers.parse(url).members)
