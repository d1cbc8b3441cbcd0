"""Which thread a message belongs to, and which run is that of a message."""

from __future__ import annotations

import hashlib
import uuid

from langchain_mq9.headers import CONVERSATION
from mq9.models import StoredMessage


def thread_id(agent: str, message: StoredMessage) -> str:
    """Return the thread that a message is handled in: one for each sender and conversation.

    The conversation is what the header ``conversation`` names, else the mailbox that answers go to;
    a message with neither is one by itself. The name of a conversation counts only beside that of
    its sender: whoever sends without a name meets nobody by it. A sender that the broker knows is
    another one than who only claims its name.

    Args:
        agent: The agent that handles the message.
        message: The message.

    Returns:
        A UUID, since servers of LangGraph take no other threads.
    """
    named = message.headers.get(CONVERSATION)
    if named is not None and message.sender is not None:
        conversation = ("named", named)
    elif message.reply_to is not None:
        conversation = ("answered at", message.reply_to)
    else:
        conversation = ("alone", message_key(message))
    known = "verified" if message.sender_verified else "claimed"
    digest = _digest("thread", agent, known, message.sender or "", *conversation)
    return str(uuid.UUID(bytes=digest[:16], version=5))


def message_key(message: StoredMessage) -> str:
    """Return what tells a message from all others, the same for each of its deliveries.

    It begins with the mailbox and the number that the message has there, each before a slash.
    """
    address, number = message.mail_address, str(message.msg_id)
    digest = _digest("message", address, number, str(message.create_time)) + message.payload
    return f"{address}/{number}/{hashlib.sha256(digest).hexdigest()[:16]}"


def message_of_key(key: str) -> tuple[str, int] | None:
    """Return the mailbox and the number in a key; None where it is none of ours."""
    address, _, rest = key.partition("/")
    number = rest.partition("/")[0]
    return (address, int(number)) if number.isdecimal() else None


def _digest(*words: str) -> bytes:
    joined = "\0".join(words).encode("utf-8", "backslashreplace")
    return hashlib.sha256(joined).digest()
