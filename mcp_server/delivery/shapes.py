"""The hooks of hosts: what each event means, what a host says with it, what it wants to hear."""

from __future__ import annotations

import json

TYPE_CHECKING = False  # importing it from typing takes longer than all that is done here
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

BEGINS = "mq9: "  # every notice does, and so it is recognised when a host calls it a prompt

START, PROMPT, TOOL, STOP = "start", "prompt", "tool", "stop"
_MAX_SESSION = 128

# The occasion of each event.
EVENTS: Mapping[str, Mapping[str, str]] = {
    "claude-code": {
        "SessionStart": START,
        "UserPromptSubmit": PROMPT,
        "PostToolUse": TOOL,
        "PostToolUseFailure": TOOL,
        "Stop": STOP,
    },
    "codex": {
        "SessionStart": START,
        "UserPromptSubmit": PROMPT,
        "PostToolUse": TOOL,
        "Stop": STOP,
    },
    "gemini": {
        "SessionStart": START,
        "BeforeAgent": PROMPT,
        "AfterTool": TOOL,
        "AfterAgent": STOP,
    },
    "qwen": {
        "UserPromptSubmit": PROMPT,
        "PostToolUse": TOOL,
        "Stop": STOP,
    },
    "copilot": {
        "sessionStart": START,
        "userPromptSubmitted": PROMPT,
        "postToolUse": TOOL,
        "agentStop": STOP,
    },
    "cursor": {"sessionStart": START, "postToolUse": TOOL, "stop": STOP},
}
WAKEABLE = ("claude-code", "codex")


class HookCall:
    """A call of a hook: the session, the occasion, and whether the turn is not to be continued."""

    __slots__ = ("continued", "occasion", "session")

    def __init__(self, session: str, occasion: str, continued: bool) -> None:
        self.session = session
        self.occasion = occasion
        self.continued = continued


def read_event(host: str, event: str, document: Mapping[str, Any]) -> HookCall | None:
    """Return what a host says with an event; None where it names no session."""
    session = read_session(document)
    if session is None:
        return None
    occasion = EVENTS[host][event]
    if occasion == START and document.get("source") == "compact":
        occasion = TOOL  # in the middle of a turn
    if occasion == TOOL and document.get("agent_id"):
        return None  # a subagent would be told, and the session would not
    if occasion == PROMPT and not _is_of_a_person(document.get("prompt")):
        occasion = TOOL
    # Cursor counts, and tells when its user has ended a turn.
    continued = (
        document.get("stop_hook_active") is True
        or bool(document.get("loop_count"))
        or document.get("status") in ("aborted", "error")
    )
    return HookCall(session, occasion, continued)


def read_session(document: Mapping[str, Any]) -> str | None:
    """Return the session that a host names."""
    names = ("session_id", "sessionId", "conversation_id")
    session = next((document[one] for one in names if document.get(one)), None)
    return session if isinstance(session, str) and len(session) <= _MAX_SESSION else None


def _is_of_a_person(prompt: object) -> bool:
    """Tell whether a prompt was typed; what continues or wakes a session is called a prompt too."""
    if not isinstance(prompt, str):
        return True
    text = prompt.lstrip()
    while text.startswith("<hook_context>") and "</hook_context>" in text:
        text = text.partition("</hook_context>")[2].lstrip()
    return not text.startswith((BEGINS, "<task-notification>", "<hook_prompt"))


def write_answer(host: str, event: str, text: str | None, person: str | None = None) -> str:
    """Return what a hook prints: nothing where there is nothing to say.

    Args:
        host: The host.
        event: The event, as the host calls it.
        text: What the model is told.
        person: What the person is told, where the host has a way to do that.
    """
    occasion = EVENTS[host][event]
    said: dict[str, Any] = {}
    if text is not None:
        if host == "cursor":
            said = {"followup_message" if occasion == STOP else "additional_context": text}
        elif occasion == STOP and host != "claude-code":
            said = {"decision": "block", "reason": text}
        elif host == "copilot":
            said = {"additionalContext": text}
        else:
            said = {"hookSpecificOutput": {"hookEventName": event, "additionalContext": text}}
    if person is not None and host in {"claude-code", "codex", "gemini", "qwen"}:
        said["systemMessage"] = person
    return json.dumps(said) if said else ""
