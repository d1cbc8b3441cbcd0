"""The rules that a host's user could write instead of approving the same thing again and again.

A rule is proposed in the text of a question. Nothing here writes one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROPOSED_AFTER = 3  # approvals in a row of the same action
_MOST_CHARS = 200
_SHELL = set("*?[]{}()<>|&;$`\\\"'~#!\n")  # what makes a command more than words


@dataclass(frozen=True, slots=True)
class Rule:
    """A line for a host's own settings, and how to write it."""

    file: str
    line: str
    text: str

    @property
    def value(self) -> dict[str, str]:
        """The rule as it stands in a question."""
        return {"file": self.file, "line": self.line}


def rule_for(host: str, tool: str, args: Mapping[str, Any], times: int) -> Rule | None:
    """Return the rule that would have allowed an action which was approved so often.

    None where it was approved less often, or no rule of the host means exactly this action.
    """
    made = _MAKERS.get(host)
    if times < PROPOSED_AFTER or made is None:
        return None
    rule = made(tool, args)
    if rule is None:
        return None
    text = f"You approved this {times} times in a row. To be asked no more, {rule.text}"
    return Rule(rule.file, rule.line, text)


def _claude_code(tool: str, args: Mapping[str, Any]) -> Rule | None:
    line = None
    if tool == "Bash":
        command = args.get("command")
        # A star stands for anything, and a colon before it ends the words.
        if isinstance(command, str) and "*" not in command and _is_line(command):
            line = f"Bash({command})"
    elif tool.startswith("mcp__"):
        line = tool
    if line is None:
        return None
    file = ".claude/settings.local.json"
    return Rule(file, line, f"add {json.dumps(line)} to permissions.allow in {file}.")


def _codex(tool: str, args: Mapping[str, Any]) -> Rule | None:
    command = args.get("command")
    if tool != "Bash" or not isinstance(command, str) or not _is_line(command):
        return None
    if _SHELL & set(command):
        return None
    file = "~/.codex/rules/default.rules"
    line = f'prefix_rule(pattern={json.dumps(shlex.split(command))}, decision="allow")'
    text = f"add {line} to {file}: it allows every command that begins so."
    return Rule(file, line, text)


_MAKERS = {"claude-code": _claude_code, "codex": _codex}


def _is_line(command: str) -> bool:
    return command.isprintable() and 0 < len(command) <= _MOST_CHARS
