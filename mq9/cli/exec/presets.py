"""Hosts that ``mq9 exec`` knows: how each is called, and what its output says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

MOST_OUTPUT = 64 * 1024**2  # bytes of events, of which only the answer is kept


@dataclass(frozen=True, slots=True)
class Preset:
    """A host that runs without a user.

    Attributes:
        begin: The first words of its command, before those of the user.
        end: The last words.
        session: The field with the id of the session, in any of its events.
        answer: Where the answer is in an event, field by field. The last one counts.
        events: The values that tell events with an answer from others, by their fields.
    """

    begin: tuple[str, ...]
    end: tuple[str, ...]
    session: str
    answer: tuple[str, ...]
    events: Mapping[str, str]

    def words(self, own: Sequence[str]) -> list[str]:
        """Return the command with words of the user."""
        return [*self.begin, *own, *self.end]

    def read(self, output: bytes) -> tuple[str | None, str | None]:
        """Return the session and the answer in an output; None for what is not there."""
        session = answer = None
        for event in _events(output):
            found = _in(event, (self.session,))
            session = found or session
            if all(_in(event, tuple(path.split("."))) == one for path, one in self.events.items()):
                answer = _in(event, self.answer) or answer
        return session, answer


def _events(output: bytes) -> list[Any]:
    """Return the JSON documents in an output: a single one, or one in each line."""
    events = []
    for text in (output, *output.splitlines()):
        try:
            events.append(orjson.loads(text))
        except orjson.JSONDecodeError:
            continue  # a line for people
        if text is output:
            break
    return events


def _in(event: Any, path: Sequence[str]) -> str | None:
    """Return the text in a field of fields."""
    for name in path:
        event = event.get(name) if isinstance(event, dict) else None
    return event if isinstance(event, str) else None


PRESETS = {
    "claude": Preset(
        begin=("claude", "--print", "--output-format", "json"),
        end=("[", "--resume", "{session}", "]"),
        session="session_id",
        answer=("result",),
        events={"type": "result"},
    ),
    "codex": Preset(
        begin=("codex", "exec", "--json"),
        end=("[", "resume", "{session}", "]", "-"),
        session="thread_id",
        answer=("item", "text"),
        events={"type": "item.completed", "item.type": "agent_message"},
    ),
    "copilot": Preset(
        begin=("copilot", "--output-format", "json"),
        end=("[", "--resume={session}", "]"),
        session="sessionId",
        answer=("data", "content"),
        events={"type": "assistant.message"},
    ),
    "cursor": Preset(
        begin=("cursor-agent", "--print", "--output-format", "json"),
        end=("[", "--resume", "{session}", "]"),
        session="session_id",
        answer=("result",),
        events={"type": "result"},
    ),
    "gemini": Preset(
        begin=("gemini", "--output-format", "json"),
        end=("[", "--resume", "{session}", "]"),
        session="session_id",
        answer=("response",),
        events={},
    ),
    "opencode": Preset(
        begin=("opencode", "run", "--format", "json"),
        end=("[", "--session", "{session}", "]"),
        session="sessionID",
        answer=("part", "text"),
        events={"type": "text"},
    ),
}
