"""Messages as a page shows them: bodies as text, instants as words, replies below questions."""

from __future__ import annotations

import base64
import json
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from mq9.client.client import Mq9Client
from mq9.models import ConversationMessage, Message, StoredMessage
from mq9.operations.message_views import visible

_MOST_CHARS = 20_000  # of a body in a page; the rest is a download
_FOLDED_CHARS = 1_200
_FOLDED_LINES = 16
_DEEPEST = 5  # how far replies are indented
_NAMES_AT_ONCE = 100  # that LOOKUP takes


_ASKS = '{"type":"question","text":'


def headline(begin: str) -> str:
    """Return the beginning of a message in one line; of a question its text."""
    if begin.startswith(_ASKS):
        rest = begin.removeprefix(_ASKS)
        try:
            begin, _ = json.JSONDecoder().raw_decode(rest)
        except ValueError:  # it is cut off within the text
            begin = rest[1:]
    return visible(str(begin))


@dataclass(frozen=True, slots=True)
class Body:
    """A body as text.

    Attributes:
        text: The text, or as much of it as a page shows.
        kind: ``text``, ``JSON``, ``binary`` (then the text is base64) or ``empty``.
        size: Size of the body in bytes.
        is_cut: Whether the text is only its beginning.
    """

    text: str
    kind: str
    size: int
    is_cut: bool = False

    @property
    def is_long(self) -> bool:
        """Whether it is to be folded."""
        return len(self.text) > _FOLDED_CHARS or self.text.count("\n") >= _FOLDED_LINES

    @property
    def begin(self) -> str:
        """The first line, for the summary of one that is folded."""
        line = " ".join(self.text[:200].split())
        return line[:100] + ("…" if len(line) > 100 or len(self.text) > 100 else "")


def body_of(payload: bytes, most: int = _MOST_CHARS) -> Body:
    """Return a body as text, JSON with line breaks; what does not print is spelled out.

    Args:
        payload: The body.
        most: Highest number of characters to show.
    """
    size = len(payload)
    if not payload:
        return Body("", "empty", 0)
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        encoded = base64.b64encode(payload[:most]).decode("ascii")
        return Body(encoded[:most], "binary", size, is_cut=len(encoded) > most or size > most)
    pretty = _pretty(text)
    shown = visible((text if pretty is None else pretty)[: most + 1]).replace("\r\n", "\n")
    kind = "text" if pretty is None else "JSON"
    return Body(shown[:most], kind, size, is_cut=len(shown) > most)


_PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_DEEPEST_JSON = 40


def _pretty(text: str) -> str | None:
    """Return a JSON object or array with line breaks and nothing else changed; None of others."""
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    written: list[str] = []
    depth, before = 0, ""
    for part in _PARTS.findall(text):
        if part in "]}":
            depth -= 1
            written.append("" if before in "[{" else _line(depth))
        elif before == "," or (before and before in "[{"):
            written.append(_line(depth))
        written.append(": " if part == ":" else part)
        if part in "[{":
            depth += 1
            if depth > _DEEPEST_JSON:
                return None
        before = part
    return "".join(written)


def _line(depth: int) -> str:
    return "\n" + "  " * depth


@dataclass(frozen=True, slots=True)
class Threaded:
    """A message of a conversation, and how deep it lies below the first question.

    Attributes:
        entry: The message and how it stands.
        depth: 0 for what answers nothing on the page.
        answered: Whether an answer to it is on the page.
    """

    entry: ConversationMessage[Message]
    depth: int = 0
    answered: bool = False


def place_of(message: StoredMessage) -> tuple[str, int]:
    """Return the mailbox and the number of a message."""
    return message.mail_address, message.msg_id


def threaded(entries: Sequence[ConversationMessage[Message]]) -> list[Threaded]:
    """Put each reply below its message; keep the others in the order of time."""
    known = {place_of(one.message) for one in entries}
    replies: defaultdict[tuple[str, int] | None, list[ConversationMessage[Message]]]
    replies = defaultdict(list)
    for one in entries:
        above = one.in_reply_to if one.in_reply_to in known else None
        replies[None if above == place_of(one.message) else above].append(one)
    rows: list[Threaded] = []
    waiting = [(one, 0) for one in reversed(replies.pop(None, []))]
    while waiting:
        entry, depth = waiting.pop()
        below = replies.pop(place_of(entry.message), [])
        rows.append(Threaded(entry, min(depth, _DEEPEST), answered=bool(below)))
        waiting += [(one, depth + 1) for one in reversed(below)]
    # The rest answers itself in a circle, which any sender can make.
    rows += [Threaded(one) for several in replies.values() for one in several]
    return rows


def link(path: str, **values: object) -> str:
    """Return a path of the desk with a query; values that are None or empty are left out."""
    given = {name: value for name, value in values.items() if value not in {None, ""}}
    return f"{path}?{urlencode(given)}" if given else path


async def registered(client: Mq9Client, names: Collection[str | None]) -> frozenset[str]:
    """Return which of the names are those of registered agents."""
    asked = sorted(name for name in names if name is not None)
    known: set[str] = set()
    for start in range(0, len(asked), _NAMES_AT_ONCE):
        found = await client.agent_lookup(asked[start : start + _NAMES_AT_ONCE])
        known |= {one.name for one in found if one.registered}
    return frozenset(known)
