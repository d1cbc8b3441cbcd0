"""Conversations: the one of a message, its path, and when it stops.

The path of a message names the agents of the conversation, the sender last. It shows the open
questions: an agent that appears again was answered by the agents after its first appearance.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mq9.models import CONVERSATION, PART_OF, StoredMessage
from mq9.protocol import checks

DEFAULT_MAX_HOPS = 32
HIGHEST_MAX_HOPS = checks.MAX_TAGS - 1  # what such a message leads to has one more

_LONGEST_NAME = 40  # characters of a name that a reason shows; a reason may have 1 024
_SHOWN_AT_AN_END = 10  # names of a longer path


def extended(path: Sequence[str], agent: str) -> tuple[str, ...]:
    """Return the path of an agent's message for a fetched one; of a full path the newest names."""
    return (*path[-HIGHEST_MAX_HOPS:], _written(agent))


def reason_to_stop(
    path: Sequence[str],
    agent: str,
    *,
    max_hops: int = DEFAULT_MAX_HOPS,
    is_answer: bool = False,
) -> str | None:
    """Return why an agent is not to deal with a message; None when it may.

    It is not when the path is longer than ``max_hops``, or when the message goes in a circle: when
    a question of the agent is open which led, through others, to this message. A known answer is no
    circle, nor is a message directly from the agent that was asked, or from itself. The reason has
    at most 1 024 characters, with words of others in it.
    """
    if len(path) > max_hops:
        return f"too many hops, {len(path)} of at most {max_hops}: {_shown(path)}"
    name = _written(agent)
    if not is_answer and name in _open(path)[:-2]:
        return f"a circle: {_shown([*path, name])}"
    return None


def is_return(path: Sequence[str], agent: str) -> bool:
    """Return whether a message comes directly from the agent that got the last question."""
    return _written(agent) in _open(path)[-2:-1]


def _open(path: Sequence[str]) -> list[str]:
    """Return the agents whose questions are open, in the order in which they asked."""
    asking: list[str] = []
    for name in path:
        if name in asking:
            del asking[asking.index(name) + 1 :]
        else:
            asking.append(name)
    return asking


def _written(agent: str) -> str:
    """Return an agent's name as it stands in a path, in which commas separate names."""
    return agent.replace(",", ";")


def _shown(path: Sequence[str]) -> str:
    names = [
        name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in path
    ]
    if len(names) > 2 * _SHOWN_AT_AN_END:
        names[_SHOWN_AT_AN_END:-_SHOWN_AT_AN_END] = ["…"]
    return ", ".join(names)


def thread_id(agent: str, message: StoredMessage) -> str:
    """Return the thread of a message, a UUID: one for each sender and conversation.

    The header ``conversation`` names the conversation, else ``reply_to`` does; a message with
    neither is one by itself. A named conversation counts only with a sender, and a verified sender
    is another one than a claimed one of the same name.
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


def mailbox_of_turn(mail_address: str, thread: str) -> str:
    """Return the mailbox whose only message is leased by the worker that runs a thread."""
    return f"{mail_address}.turns.{thread.replace('-', '')}"


def message_key(message: StoredMessage) -> str:
    """Return ``mailbox/number/digest`` of a message, the same for each of its deliveries."""
    address, number = message.mail_address, str(message.msg_id)
    digest = _digest("message", address, number, str(message.create_time)) + message.payload
    return f"{address}/{number}/{hashlib.sha256(digest).hexdigest()[:16]}"


def message_of_key(key: str) -> tuple[str, int] | None:
    """Return the mailbox and the number in a key of ours, if it is one."""
    address, _, rest = key.partition("/")
    number = rest.partition("/")[0]
    return (address, int(number)) if number.isdecimal() else None


def _digest(*words: str) -> bytes:
    joined = "\0".join(words).encode("utf-8", "backslashreplace")
    return hashlib.sha256(joined).digest()


_MOST = 2_000  # messages that are remembered
_MOST_ASKED = 10_000  # correlation ids
_CONTINUED_MS = 3_600_000  # how long after it was fetched last


@dataclass(slots=True)
class _Taken:
    scope: str
    reply_to: str | None
    correlation_id: str | None
    path: tuple[str, ...]
    conversation: str | None
    is_answer: bool
    at_ms: int
    is_answered: bool = False

    def is_followed_by(self, mail_address: str, correlation_id: str | None) -> bool:
        """Return whether a sent message continues its conversation."""
        if correlation_id is not None and self.correlation_id is not None:
            return correlation_id == self.correlation_id
        return mail_address == self.reply_to


class Before(NamedTuple):
    """The path and the conversation that a message continues."""

    path: tuple[str, ...] = ()
    conversation: str | None = None

    def headers(self, correlation_id: str | None) -> dict[str, str]:
        """Return the headers by which a message belongs to the same conversation."""
        if self.conversation in {None, correlation_id}:
            return {}
        return {PART_OF: str(self.conversation)}


class Conversations:
    """The latest fetches and questions of an agent, by which its messages get their paths.

    An answer continues the path of the fetched message. It has the same correlation id or, if one
    of the two has none, goes to its ``reply_to``. Any other message continues the present task: the
    last fetched message of the same scope that is not an answer, and was not answered. Messages
    that were fetched more than an hour ago do not count.

    Usable from several threads. ``dead_letter`` is the mailbox for stopped messages. None: the
    agent's own mailbox with ``.dead`` appended.
    """

    def __init__(self, *, max_hops: int = DEFAULT_MAX_HOPS, dead_letter: str | None = None) -> None:
        self.max_hops = checks.whole(1, HIGHEST_MAX_HOPS)("max_hops", max_hops)
        self.dead_letter: str | None = checks.optional(checks.mail_address)(
            "dead_letter", dead_letter
        )
        self._lock = threading.Lock()
        self._taken: OrderedDict[tuple[str, str, int], _Taken] = OrderedDict()
        self._asked: OrderedDict[str, None] = OrderedDict()  # correlation ids, the oldest first

    def is_answer(self, message: StoredMessage) -> bool:
        """Return whether a message answers a question of the agent, by its correlation id."""
        with self._lock:
            return message.correlation_id is not None and message.correlation_id in self._asked

    def may_answer(self, mail_address: str) -> bool:
        """Return whether an unanswered fetched message names this mailbox as ``reply_to``."""
        with self._lock:
            return any(
                one.reply_to == mail_address and not one.is_answered for one in self._taken.values()
            )

    def taken(self, scope: str, message: StoredMessage, *, is_answer: bool, now_ms: int) -> None:
        """Remember a message that the agent fetched in a scope; an answer is no task of its own."""
        key = scope, message.mail_address, message.msg_id
        with self._lock:
            known = self._taken.pop(key, None)
            self._taken[key] = _Taken(
                scope=scope,
                reply_to=message.reply_to,
                correlation_id=message.correlation_id,
                path=message.path,
                conversation=message.conversation,
                is_answer=is_answer,
                at_ms=now_ms,
                is_answered=known is not None and known.is_answered,
            )
            while len(self._taken) > _MOST:
                self._taken.popitem(last=False)

    def before(
        self,
        scope: str,
        mail_address: str,
        correlation_id: str | None,
        *,
        task: Before | None = None,
        now_ms: int,
    ) -> Before:
        """Tell of the message that the agent sends another one for."""
        with self._lock:
            lately = [
                one for one in reversed(self._taken.values()) if now_ms - one.at_ms <= _CONTINUED_MS
            ]
        for one in lately:
            if one.is_followed_by(mail_address, correlation_id):
                return Before(one.path, one.conversation)
        if task is not None:
            return task
        for one in lately:
            if one.scope == scope and not (one.is_answer or one.is_answered):
                return Before(one.path, one.conversation)
        return Before()

    def sent(self, mail_address: str, correlation_id: str | None, *, made_up: bool = False) -> None:
        """Note a message that was sent: an answer, or a question with a correlation id.

        One with a ``made_up`` id may be either.
        """
        given = None if made_up else correlation_id
        with self._lock:
            for one in reversed(self._taken.values()):
                if one.reply_to == mail_address and one.is_followed_by(mail_address, given):
                    one.is_answered = True
                    if made_up:
                        break
                    return
            if correlation_id is not None:
                self._asked.setdefault(correlation_id)
                if len(self._asked) > _MOST_ASKED:
                    self._asked.popitem(last=False)
