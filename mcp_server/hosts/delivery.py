"""The hooks by which each host tells its sessions of mail.

A hook is a command that the host runs when a session begins, a prompt is typed, a tool has been
called or a turn ends. Ours is ``mq9-mcp hook HOST EVENT``, which prints a notice of new mail in the
shape that the host wants, or nothing.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_server.delivery.shapes import EVENTS
from mcp_server.hosts import json_text, toml_text
from mcp_server.hosts.entry import DEFAULT_KEY, PROGRAM, HostEntry
from mcp_server.hosts.host import ConfigText, Launch, Machine, Scope
from mcp_server.hosts.plan import Change, Plan
from mcp_server.hosts.settings_plan import (
    Setting,
    SettingsFile,
    plan_settings,
    plan_settings_undo,
)
from mq9 import InvalidRequest

_HOOK_TIMEOUT_S = 10  # a hook waits for the server of a session that just began
_WATCH_TIMEOUT_S = 86_400  # a session that rests longer sleeps until the next prompt


@dataclass(frozen=True, slots=True)
class HookCall:
    """The command that a host runs at one of its events."""

    machine: Machine
    command: str
    host: str
    event: str
    agent: str

    @property
    def words(self) -> list[str]:
        """The arguments that tell of the event."""
        return ["hook", self.host, self.event, "--agent", self.agent]

    @property
    def watch_words(self) -> list[str]:
        """The arguments that wait for mail of a session that rests."""
        return ["watch", self.host, "--agent", self.agent]

    @property
    def line(self) -> str:
        """The command as a line for the shell of the system."""
        words = [self.command, *self.words]
        on_windows = self.machine.platform == "win32"
        return subprocess.list2cmdline(words) if on_windows else shlex.join(words)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The hooks of a host: where they stand, when they are run, how each is written."""

    user_file: Callable[[Machine], Path]
    project_file: str
    events: Sequence[str]
    hook: Callable[[HookCall], Any]
    when: str  # it is told, as a sentence goes on after "A session is told of mail"
    to_do: Sequence[str] = ()  # by the person
    project_to_do: Sequence[str] = ()  # by each person who has the project
    members: Sequence[Setting] = ()  # of the file, beside the hooks
    # Where the host keeps that its user trusts hooks: a file, and how an event's key begins there.
    trust: Callable[[Machine, Path], tuple[Path, str]] | None = None

    def left_to_do(self, scope: Scope) -> Sequence[str]:
        """Return what a person has to do still, so that mail arrives."""
        return self.to_do if scope == "user" else [*self.project_to_do, *self.to_do]

    def file(self, machine: Machine, scope: Scope) -> Path:
        """Return the file that lists the host's hooks."""
        if scope == "project":
            return machine.project / self.project_file
        return self.user_file(machine)


def _claude_code(call: HookCall) -> Any:
    hooks: list[dict[str, Any]] = [
        {
            "type": "command",
            "command": call.command,
            "args": call.words,
            "timeout": _HOOK_TIMEOUT_S,
        }
    ]
    if call.event in {"SessionStart", "Stop"}:  # it rests now
        hooks.append(
            {
                "type": "command",
                "command": call.command,
                "args": call.watch_words,
                "asyncRewake": True,
                "timeout": _WATCH_TIMEOUT_S,
            }
        )
    return {"hooks": hooks}


def _codex(call: HookCall) -> Any:
    return {"hooks": [{"type": "command", "command": call.line, "timeout": _HOOK_TIMEOUT_S}]}


def _gemini(call: HookCall) -> Any:
    timeout_ms = _HOOK_TIMEOUT_S * 1000
    hook = {"type": "command", "name": PROGRAM, "command": call.line, "timeout": timeout_ms}
    return {"hooks": [hook]}


def _copilot(call: HookCall) -> Any:
    shell = "powershell" if call.machine.platform == "win32" else "bash"
    # PowerShell takes a quoted program for a text, unless it is told to call it.
    line = f"& {call.line}" if shell == "powershell" else call.line
    return {"type": "command", shell: line, "timeoutSec": _HOOK_TIMEOUT_S}


def _cursor(call: HookCall) -> Any:
    return {"command": call.line, "timeout": _HOOK_TIMEOUT_S}


_SLEEPS = "An idle chat sleeps: mail that comes then is told at your next prompt."
_WHILE_IT_WORKS = "when it begins, at each prompt, between tool calls and at the end of a turn"

DELIVERIES: Mapping[str, Delivery] = {
    "claude-code": Delivery(
        user_file=lambda machine: (
            (machine.directory("CLAUDE_CONFIG_DIR") or machine.home / ".claude") / "settings.json"
        ),
        project_file=".claude/settings.json",
        events=tuple(EVENTS["claude-code"]),
        hook=_claude_code,
        when=f"{_WHILE_IT_WORKS}, and is woken when it rests in a terminal",
        project_to_do=(
            "Trust the folder, and let Claude Code start the project's server, when it asks.",
        ),
    ),
    "codex": Delivery(
        user_file=lambda machine: (
            (machine.directory("CODEX_HOME") or machine.home / ".codex") / "hooks.json"
        ),
        project_file=".codex/hooks.json",
        events=tuple(EVENTS["codex"]),
        hook=_codex,
        when=f"{_WHILE_IT_WORKS}, and is woken when it rests in a terminal",
        to_do=(
            'Start codex in a terminal and choose "Trust all and continue".',
            "Until then it skips the hooks, and says nothing.",
            "A session is told from its first prompt on.",
        ),
        project_to_do=("Trust the project when Codex asks.",),
        trust=lambda machine, file: (
            (machine.directory("CODEX_HOME") or machine.home / ".codex") / "config.toml",
            f"{file.resolve()}:",
        ),
    ),
    "gemini": Delivery(
        user_file=lambda machine: (
            (machine.directory("GEMINI_CLI_HOME") or machine.home) / ".gemini/settings.json"
        ),
        project_file=".gemini/settings.json",
        events=tuple(EVENTS["gemini"]),
        hook=_gemini,
        when=_WHILE_IT_WORKS,
        to_do=(
            "Trust the folder when Gemini asks: in others it has no tools to read mail with.",
            _SLEEPS,
        ),
    ),
    "qwen": Delivery(
        user_file=lambda machine: machine.home / ".qwen/settings.json",
        project_file=".qwen/settings.json",
        events=tuple(EVENTS["qwen"]),
        hook=_codex,
        # Without a window it starts its servers after the hooks of the first prompt.
        when="at each prompt in a terminal, between tool calls and at the end of a turn",
        to_do=(_SLEEPS,),
        project_to_do=("Trust the folder when Qwen Code asks.",),
    ),
    "copilot": Delivery(
        user_file=lambda machine: (
            (machine.directory("COPILOT_HOME") or machine.home / ".copilot") / "hooks/mq9.json"
        ),
        project_file=".github/hooks/mq9.json",
        events=tuple(EVENTS["copilot"]),
        hook=_copilot,
        when=_WHILE_IT_WORKS,
        to_do=(_SLEEPS,),
        members=(Setting(("version",), 1),),
    ),
    "cursor": Delivery(
        user_file=lambda machine: machine.home / ".cursor/hooks.json",
        project_file=".cursor/hooks.json",
        events=tuple(EVENTS["cursor"]),
        hook=_cursor,
        when="when it begins, between tool calls and at the end of a turn",
        to_do=(_SLEEPS, "This follows Cursor's documentation, and was not tried in Cursor."),
        members=(Setting(("version",), 1),),
    ),
}


def delivery_of(host: str) -> Delivery:
    """Return how mail reaches a host by itself."""
    try:
        return DELIVERIES[host]
    except KeyError:
        raise InvalidRequest(
            f"deliver: {host} has no hooks that mq9-mcp can write; these have: "
            f"{', '.join(DELIVERIES)}"
        ) from None


@dataclass(frozen=True, slots=True)
class Approval:
    """The setting by which a host calls our tools without asking."""

    file: Callable[[Machine, Scope], Path]
    setting: Callable[[str], Setting]  # by the key of the server
    text: ConfigText = json_text


def _in_codex_config(machine: Machine, scope: Scope) -> Path:
    if scope == "project":
        return machine.project / ".codex/config.toml"
    return DELIVERIES["codex"].user_file(machine).with_name("config.toml")


APPROVALS: Mapping[str, Approval] = {
    "claude-code": Approval(
        DELIVERIES["claude-code"].file,
        lambda key: Setting(("permissions", "allow"), f"mcp__{key}", is_in_list=True),
    ),
    "codex": Approval(
        _in_codex_config,
        lambda key: Setting(("mcp_servers", key, "default_tools_approval_mode"), "approve"),
        toml_text,
    ),
    "gemini": Approval(
        DELIVERIES["gemini"].file,
        lambda key: Setting(("mcpServers", key, "trust"), True),
    ),
    "qwen": Approval(
        DELIVERIES["qwen"].file,
        lambda key: Setting(("mcpServers", key, "trust"), True),
    ),
}


def approval_of(host: str) -> Approval:
    """Return how a host is told that it need not ask."""
    try:
        return APPROVALS[host]
    except KeyError:
        raise InvalidRequest(
            f"approve: {host} has no setting for that which mq9-mcp can write; these have: "
            f"{', '.join(APPROVALS)}"
        ) from None


def plan_delivery(
    entry: HostEntry,
    machine: Machine,
    *,
    deliver: bool,
    approve: bool,
    planned: Change | None = None,
) -> list[Plan]:
    """Plan to have a host tell of mail, or call our tools unasked, beside the entry.

    Hooks ask a server that the host starts, so one that it only connects to has none. ``planned``
    is the change of the entry, which is made before and may be of the same file.
    """
    host, scope = entry.host.name, entry.scope
    launch = entry.launch
    files: dict[Path, SettingsFile] = {}
    if deliver and isinstance(launch, Launch):
        delivery = delivery_of(host)
        agent = launch.option("--agent") or host
        settings = [
            Setting(
                ("hooks", event),
                delivery.hook(HookCall(machine, launch.command, host, event, agent)),
                is_in_list=True,
            )
            for event in delivery.events
        ]
        path = delivery.file(machine, scope)
        files[path] = SettingsFile(path, [*delivery.members, *settings])
    if approve:
        approval = approval_of(host)
        path = approval.file(machine, scope)
        before = files[path].settings if path in files else ()
        files[path] = SettingsFile(path, [*before, approval.setting(entry.key)], approval.text)
    return [plan_settings(file, planned) for file in files.values()]


def plan_delivery_undo(
    host: str, machine: Machine, *, key: str = DEFAULT_KEY, scope: Scope = "user"
) -> list[Plan]:
    """Plan to put back the settings that were there before; those that were not changed stay."""
    files: dict[Path, SettingsFile] = {}
    delivery = DELIVERIES.get(host)
    if delivery is not None:
        hooks = [Setting(("hooks", event), None, is_in_list=True) for event in delivery.events]
        path = delivery.file(machine, scope)
        files[path] = SettingsFile(path, [*delivery.members, *hooks])
    approval = APPROVALS.get(host)
    if approval is not None:
        path = approval.file(machine, scope)
        before = files[path].settings if path in files else ()
        files[path] = SettingsFile(path, [*before, approval.setting(key)], approval.text)
    plans = [plan_settings_undo(file) for file in files.values()]
    return [plan for plan in plans if plan.is_change]
