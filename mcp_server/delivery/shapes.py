"""The hooks of hosts: the events, their input, and the output that each host expects."""

from __future__ import annotations

import json

TYPE_CHECKING = False  # importing it from typing takes longer than all that is done here
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

BEGINS = "mq9: "  # every notice does, and so it is recognised when a host calls it a prompt

START, PROMPT, TOOL, STOP = "start", "prompt", "tool", "stop"
_MAX_SESSION = 128
_MAX_TOOL = 256
_TELL_PERSON = ("claude-code", "codex", "gemini", "qwen")

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

ASKS, ENDED = "asks", "ended"

# The event of a permission question, and the events after a tool was used.
PERMISSIONS: Mapping[str, Mapping[str, str]] = {
    "claude-code": {
        "PermissionRequest": ASKS,
        "PostToolUse": ENDED,
        "PostToolUseFailure": ENDED,
    },
    "codex": {"PermissionRequest": ASKS},
    "qwen": {"PermissionRequest": ASKS},
    "copilot": {"permissionRequest": ASKS},
}
# Their own prompt is open meanwhile. They do not end the hook when somebody approves there.
ASKING_ASIDE = ("claude-code",)
EDITABLE = ("claude-code", "qwen")  # where a person may change the arguments of a tool
_CHOICES = ("AskUserQuestion", "ask_user_question")  # they want more than a yes or a no
_MOST_CHARS = 40_000  # of the arguments of a tool
_MOST_DEPTH = 20


class HookCall:
    """A call of a hook: the session, the occasion, and whether the turn is not to be continued."""

    __slots__ = ("continued", "occasion", "session")

    def __init__(self, session: str, occasion: str, continued: bool) -> None:
        self.session = session
        self.occasion = occasion
        self.continued = continued


class Permission:
    """An action for which a host asks a permission."""

    __slots__ = ("action", "args", "cut", "session", "tool", "why")

    def __init__(self, session: str, tool: str, args: Mapping[str, Any]) -> None:
        bounded = _Bounded()
        self.session = session
        self.tool = tool
        self.args = bounded.of(args)
        self.cut = bounded.cut
        why = args.get("description")
        self.why = bounded.of(why) if isinstance(why, str) else None
        self.action = _action(tool, args)


class _Bounded:
    """Copies JSON up to a number of characters, and counts those that it leaves out."""

    def __init__(self) -> None:
        self._left = _MOST_CHARS
        self.cut = 0

    def of(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, dict | list) and depth == _MOST_DEPTH:
            value = json.dumps(value)
        if isinstance(value, dict):
            return {
                self._text(name): self.of(one, depth + 1)
                for name, one in value.items()
                if self._takes(name, one)
            }
        if isinstance(value, list):
            return [self.of(one, depth + 1) for one in value if self._takes("", one)]
        if isinstance(value, str):
            return self._text(value)
        self._left -= 8
        return value

    def _takes(self, name: str, value: Any) -> bool:
        if self._left > 0:
            return True
        self.cut += len(name) + len(json.dumps(value))
        return False

    def _text(self, text: str) -> str:
        kept = text[: max(self._left, 0)]
        self._left -= len(kept) + 8
        left_out = len(text) - len(kept)
        if not left_out:
            return text
        self.cut += left_out
        return f"{kept}… ({left_out} more characters were left out)"


def _action(tool: str, args: Mapping[str, Any]) -> str:
    """Return an identity of an action; the model's description does not count."""
    from hashlib import sha256  # noqa: PLC0415  # most hooks do without

    without = {name: one for name, one in args.items() if name != "description"}
    return sha256(json.dumps([tool, without], sort_keys=True).encode()).hexdigest()


def read_permission(document: Mapping[str, Any]) -> Permission | None:
    """Return the action of a permission question; None if yes or no is not an answer."""
    session = read_session(document)
    tool = document.get("tool_name") or document.get("toolName")
    args = document.get("tool_input") or document.get("toolInput") or {}
    if session is None or not isinstance(tool, str) or tool in _CHOICES:
        return None
    if not tool or len(tool) > _MAX_TOOL or not isinstance(args, dict):
        return None
    try:
        return Permission(session, tool, args)
    except RecursionError:
        return None


def write_permission(host: str, event: str, answer: Mapping[str, Any]) -> str:
    """Return the output of a hook for an answer; empty if the host is to ask by itself."""
    behavior = answer.get("behavior")
    said: dict[str, Any] = {}
    if behavior in {"allow", "deny"}:
        said = {"behavior": behavior}
        if behavior == "deny":
            said["message"] = answer.get("message")
        elif host in EDITABLE and answer.get("args") is not None:
            said["updatedInput"] = answer["args"]
        if host != "copilot":
            said = {"hookSpecificOutput": {"hookEventName": event, "decision": said}}
    if answer.get("person") is not None and host in _TELL_PERSON:
        said["systemMessage"] = answer["person"]
    return json.dumps(said) if said else ""


def read_event(host: str, event: str, document: Mapping[str, Any]) -> HookCall | None:
    """Return the input of an event; None if it names no session."""
    session = read_session(document)
    if session is None:
        return None
    occasion = EVENTS[host][event]
    if occasion == START and document.get("source") == "compact":
        occasion = TOOL  # in the middle of a turn
    if occasion == TOOL and document.get("agent_id"):
        return None  # the notice would reach a subagent, not the session
    if occasion == PROMPT and not _is_of_a_person(document.get("prompt")):
        occasion = TOOL
    # Cursor counts its turns, and reports the end of a turn by the user.
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
    """Return whether a prompt was typed, and does not come from a hook."""
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
    if person is not None and host in _TELL_PERSON:
        said["systemMessage"] = person
    return json.dumps(said) if said else ""
