"""The hooks by which each host notifies its sessions of mail, and asks people for permissions.

A hook is a command that the host runs when a session begins, a prompt is typed, a tool has been
called, a turn ends or a permission is needed. Ours are ``mq9-mcp hook HOST EVENT``, which prints a
notice of new mail in the shape that the host wants, and ``mq9-mcp permission HOST EVENT``, which
prints a person's decision; or nothing.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_server.delivery.shapes import ASKING_ASIDE, ASKS, EVENTS, PERMISSIONS, START, STOP
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
from mq9.questions import mailbox_of

_HOOK_TIMEOUT_S = 10  # a hook waits for the server of a session that just began
_MARGIN_S = 30  # a host waits so much longer for a hook than a person has time
MOST_WAIT_S = 86_400
_ASIDE_S = 3_600  # the host's own prompt is open meanwhile
_BEFORE_S = 300  # the host's own prompt comes after that
MAIL, PERMISSION = ("hook", "watch"), ("permission",)  # commands of this program
_WATCH_TIMEOUT_S = 86_400  # a session that rests longer sleeps until the next prompt


@dataclass(frozen=True, slots=True)
class HookCall:
    """The command that a host runs at one of its events.

    Attributes:
        machine: Where it runs.
        command: This program.
        words: Its arguments.
        timeout_s: Seconds that the host gives it.
        watch_words: The arguments that wait for mail of a session that rests, if it rests then.
    """

    machine: Machine
    command: str
    words: Sequence[str]
    timeout_s: int = _HOOK_TIMEOUT_S
    watch_words: Sequence[str] | None = None

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
    of_mail: Sequence[str] = ()  # what to know of mail in addition
    project_to_do: Sequence[str] = ()  # by each person who has the project
    members: Sequence[Setting] = ()  # of the file, beside the hooks
    # Where the host keeps that its user trusts hooks: a file, and how an event's key begins there.
    trust: Callable[[Machine, Path], tuple[Path, str]] | None = None

    def left_to_do(self, scope: Scope, *, deliver: bool = True) -> Sequence[str]:
        """Return what a person has to do still, so that the hooks run; and what to know of mail."""
        to_do = [*self.to_do, *(self.of_mail if deliver else ())]
        return to_do if scope == "user" else [*self.project_to_do, *to_do]

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
            "args": list(call.words),
            "timeout": call.timeout_s,
        }
    ]
    if call.watch_words is not None:
        hooks.append(
            {
                "type": "command",
                "command": call.command,
                "args": list(call.watch_words),
                "asyncRewake": True,
                "timeout": _WATCH_TIMEOUT_S,
            }
        )
    return {"hooks": hooks}


def _codex(call: HookCall) -> Any:
    return {"hooks": [{"type": "command", "command": call.line, "timeout": call.timeout_s}]}


def _gemini(call: HookCall) -> Any:
    timeout_ms = call.timeout_s * 1000
    hook = {"type": "command", "name": PROGRAM, "command": call.line, "timeout": timeout_ms}
    return {"hooks": [hook]}


def _copilot(call: HookCall) -> Any:
    shell = "powershell" if call.machine.platform == "win32" else "bash"
    # PowerShell takes a quoted program for a text, unless it is told to call it.
    line = f"& {call.line}" if shell == "powershell" else call.line
    return {"type": "command", shell: line, "timeoutSec": call.timeout_s}


def _cursor(call: HookCall) -> Any:
    return {"command": call.line, "timeout": call.timeout_s}


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
        ),
        of_mail=("A session is told from its first prompt on.",),
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
        to_do=("Trust the folder when Gemini asks: in others it has no tools to read mail with.",),
        of_mail=(_SLEEPS,),
    ),
    "qwen": Delivery(
        user_file=lambda machine: machine.home / ".qwen/settings.json",
        project_file=".qwen/settings.json",
        events=tuple(EVENTS["qwen"]),
        hook=_codex,
        # Without a window it starts its servers after the hooks of the first prompt.
        when="at each prompt in a terminal, between tool calls and at the end of a turn",
        of_mail=(_SLEEPS,),
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
        of_mail=(_SLEEPS,),
        members=(Setting(("version",), 1),),
    ),
    "cursor": Delivery(
        user_file=lambda machine: machine.home / ".cursor/hooks.json",
        project_file=".cursor/hooks.json",
        events=tuple(EVENTS["cursor"]),
        hook=_cursor,
        when="when it begins, between tool calls and at the end of a turn",
        of_mail=(_SLEEPS, "This follows Cursor's documentation, and was not tried in Cursor."),
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
class Asking:
    """The person who is asked for the permissions that a host needs.

    Attributes:
        person: The name of the person.
        wait_s: Seconds that the person has to answer; None for the host's default.
    """

    person: str
    wait_s: int | None = None

    def __post_init__(self) -> None:
        try:
            mailbox_of(self.person)
        except InvalidRequest as error:
            raise InvalidRequest(f"approvals: {error}") from None

    def seconds(self, host: str) -> int:
        """Return how many seconds the person has to answer."""
        if self.wait_s is not None:
            return self.wait_s
        return _ASIDE_S if host in ASKING_ASIDE else _BEFORE_S

    def described(self, host: str) -> str:
        """Return who is asked, where, and what happens without an answer."""
        box, seconds = mailbox_of(self.person), self.seconds(host)
        own = "Its own prompt is open meanwhile" if host in ASKING_ASIDE else "Then it asks itself"
        return (
            f"{host} asks {self.person} for permissions, for {seconds} s each. {own}.\n"
            f"To answer: mq9 inbox {box}, then mq9 reply {box} ID approve"
        )

    def words(self, host: str) -> tuple[str, ...]:
        """Return the options of the hook that asks."""
        return ("--approvals", self.person, "--wait", str(self.seconds(host)))


def asking_delivery_of(host: str) -> Delivery:
    """Return the hooks of a host that asks for permissions by them."""
    if host not in PERMISSIONS:
        raise InvalidRequest(
            f"approvals: {host} has no hook for permissions that mq9-mcp can write; these have: "
            f"{', '.join(PERMISSIONS)}"
        )
    return delivery_of(host)


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


def _mail_hooks(
    delivery: Delivery, machine: Machine, entry: HostEntry, launch: Launch
) -> list[Setting]:
    host = entry.host.name
    agent = ("--agent", launch.option("--agent") or host)
    return [
        _hook_setting(
            delivery,
            event,
            HookCall(
                machine,
                launch.command,
                ("hook", host, event, *agent),
                watch_words=("watch", host, *agent) if occasion in {START, STOP} else None,
            ),
            MAIL,
        )
        for event, occasion in EVENTS[host].items()
    ]


def _permission_hooks(
    delivery: Delivery, machine: Machine, entry: HostEntry, launch: Launch, asking: Asking
) -> list[Setting]:
    host = entry.host.name
    agent = launch.option("--agent") or host
    asked = asking.words(host)
    return [
        _hook_setting(
            delivery,
            event,
            HookCall(
                machine,
                launch.command,
                ("permission", host, event, *(asked if asks == ASKS else ()), "--agent", agent),
                asking.seconds(host) + _MARGIN_S if asks == ASKS else _HOOK_TIMEOUT_S,
            ),
            PERMISSION,
        )
        for event, asks in PERMISSIONS[host].items()
    ]


def _hook_setting(
    delivery: Delivery, event: str, call: HookCall, commands: Sequence[str]
) -> Setting:
    return Setting(("hooks", event), delivery.hook(call), is_in_list=True, commands=commands)


def plan_delivery(
    entry: HostEntry,
    machine: Machine,
    *,
    deliver: bool,
    approve: bool,
    asking: Asking | None = None,
    planned: Change | None = None,
) -> list[Plan]:
    """Plan to have a host tell of mail, ask people, or call our tools unasked, beside the entry.

    Hooks ask a server that the host starts, so one that it only connects to has none. ``planned``
    is the change of the entry, which is made before and may be of the same file.
    """
    host, scope = entry.host.name, entry.scope
    launch = entry.launch
    files: dict[Path, SettingsFile] = {}
    if isinstance(launch, Launch):
        delivery, hooks = DELIVERIES.get(host), list[Setting]()
        if deliver:
            delivery = delivery_of(host)
            hooks += _mail_hooks(delivery, machine, entry, launch)
        if asking is not None:
            delivery = asking_delivery_of(host)
            hooks += _permission_hooks(delivery, machine, entry, launch, asking)
        if hooks and delivery is not None:
            path = delivery.file(machine, scope)
            files[path] = SettingsFile(path, [*delivery.members, *hooks])
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
        events = dict.fromkeys((*delivery.events, *PERMISSIONS.get(host, ())))
        hooks = [
            Setting(("hooks", event), None, is_in_list=True, commands=(*MAIL, *PERMISSION))
            for event in events
        ]
        path = delivery.file(machine, scope)
        files[path] = SettingsFile(path, [*delivery.members, *hooks])
    approval = APPROVALS.get(host)
    if approval is not None:
        path = approval.file(machine, scope)
        before = files[path].settings if path in files else ()
        files[path] = SettingsFile(path, [*before, approval.setting(key)], approval.text)
    plans = [plan_settings_undo(file) for file in files.values()]
    return [plan for plan in plans if plan.is_change]
