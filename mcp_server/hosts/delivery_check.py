"""The checks of ``mq9-mcp doctor`` on the hooks that tell sessions of mail, and ask people."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mcp_server.delivery.shapes import PERMISSIONS
from mcp_server.hosts import json_text, toml_text
from mcp_server.hosts.delivery import DELIVERIES, MAIL, PERMISSION, Delivery
from mcp_server.hosts.entry import PROGRAM
from mcp_server.hosts.host import Launch, Machine, Scope
from mcp_server.hosts.plan import ConfigFile
from mcp_server.hosts.settings_plan import runs_ours
from mcp_server.options import flag
from mcp_server.settings import WakePolicy
from mq9 import InvalidRequest
from mq9.cli.diagnostics import Check, ok, warning


def delivery_check(
    host: str, scope: Scope, machine: Machine, *, agent: str, launch: Launch
) -> Check | None:
    """Return whether a host that starts the server is told of mail by itself, when, and how often.

    None where the host has no hooks that we could write.
    """
    delivery = DELIVERIES.get(host)
    if delivery is None:
        return None
    name = f"{host} mail" if scope == "user" else f"{host} mail (project)"
    advice = f"{_install(host, scope)} --deliver"
    try:
        hooks = _Hooks.read(host, scope, machine, delivery.events, MAIL)
    except _Unreadable as error:
        return warning(name, str(error), "look at it")
    if not any(hooks.by_event.values()):
        return ok(name, f"waits until a tool is called; to be told of it by itself: {advice}")
    wrong = hooks.problem(agent, launch, advice)
    if wrong is not None:
        return warning(name, *wrong)
    return ok(name, f"is told to a session {delivery.when}; {_policy(launch)}")


def permission_check(
    host: str, scope: Scope, machine: Machine, *, agent: str, launch: Launch
) -> Check | None:
    """Return who is asked for the permissions of a host that starts the server, and how long.

    None where nobody is asked by a hook of ours.
    """
    events = PERMISSIONS.get(host)
    if events is None:
        return None
    name = f"{host} permissions" if scope == "user" else f"{host} permissions (project)"
    try:
        hooks = _Hooks.read(host, scope, machine, tuple(events), PERMISSION)
    except _Unreadable as error:
        return warning(name, str(error), "look at it")
    if not any(hooks.by_event.values()):
        return None
    wrong = hooks.problem(agent, launch, f"{_install(host, scope)} --approvals NAME")
    if wrong is not None:
        return warning(name, *wrong)
    person, seconds = hooks.option("--approvals"), hooks.option("--wait")
    return ok(name, f"are asked of {person} for {seconds} s, and then by the host itself")


def _install(host: str, scope: Scope) -> str:
    return f"{PROGRAM} install {host}{' --project' if scope == 'project' else ''}"


class _Unreadable(Exception):
    """A file cannot be read; the text says which one, and why."""


@dataclass(frozen=True, slots=True)
class _Hooks:
    """Our hooks of one kind in the file of a host."""

    host: str
    path: Path
    to_do: Sequence[str]  # by the person, so that the host runs them
    by_event: Mapping[str, Mapping[int, Any]]  # and by their places among those of others
    untrusted: Sequence[str]  # the events whose hooks the host skips

    @classmethod
    def read(
        cls,
        host: str,
        scope: Scope,
        machine: Machine,
        events: Sequence[str],
        commands: Sequence[str],
    ) -> Self:
        """Read the hooks that run some commands of this program."""
        delivery = DELIVERIES[host]
        path = delivery.file(machine, scope)
        try:
            found = _our_hooks(path, events, commands)
            untrusted = _untrusted(delivery, machine, path, found)
        except InvalidRequest as error:
            raise _Unreadable(f"{path} cannot be read: {error}") from error
        return cls(host, path, delivery.to_do, found, untrusted)

    @property
    def lines(self) -> str:
        """All texts in them, one a line."""
        return "".join(f"{text}\n" for text in _texts(self.by_event))

    def option(self, name: str) -> str:
        """Return the value of an option that the hooks have."""
        quoted = r"""'[^']*'|"[^"]*"|\S+"""
        found = re.search(rf"{name}(?:\n([^\n]+)| ({quoted}))", self.lines)
        return "?" if found is None else (found[1] or found[2].strip("'\""))

    def problem(self, agent: str, launch: Launch, advice: str) -> tuple[str, str] | None:
        """Return what is wrong with them, and what to do; None for nothing."""
        missing = [event for event, found in self.by_event.items() if not found]
        if missing:
            said = f"{self.path} has no hook of ours at {', '.join(missing)}"
        elif not _is_of(agent, self.lines):
            said = f"the hooks in {self.path} are of another agent than {agent}"
        elif launch.command not in self.lines:
            said = f"the hooks in {self.path} run another program than {launch.command}"
        elif self.untrusted:
            names = ", ".join(self.untrusted)
            said = f"{self.host} skips the hooks of {self.path} that are not trusted: {names}"
            advice = self.to_do[0]
        else:
            return None
        return said, advice


def _policy(launch: Launch) -> str:
    """Return when mail may begin a turn by itself, as the options of the server say."""
    names = {
        "wake_in_a_row": "in_a_row",
        "wake_per_hour": "per_hour",
        "wake_cooldown": "cooldown_s",
    }
    try:
        limits = {
            limit: int(given)
            for name, limit in names.items()
            if (given := launch.option(flag(name))) is not None
        }
        return str(WakePolicy.of_senders(launch.options(flag("wake_from")), **limits))
    except ValueError as error:  # InvalidRequest is one
        return f"its limits cannot be read: {error}"


def _our_hooks(
    path: Path, events: Sequence[str], commands: Sequence[str]
) -> dict[str, dict[int, Any]]:
    """Return our hooks by their events and by their places among those of others."""
    text = ConfigFile.read(path).text
    document = json_text.parse(text) if text.strip() else {}
    hooks = document.get("hooks", {}) if isinstance(document, Mapping) else None
    if not isinstance(hooks, Mapping):
        raise InvalidRequest("hooks: it is not an object")
    return {
        event: {
            at: one for at, one in enumerate(hooks.get(event) or ()) if runs_ours(one, commands)
        }
        for event in events
    }


def _texts(value: Any) -> Iterator[str]:
    """Return all texts in hooks, in their order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def _is_of(agent: str, lines: str) -> bool:
    """Tell whether hooks name an agent at their end, as a word or as a shell wants it."""
    quoted = (shlex.quote(agent), subprocess.list2cmdline([agent]))
    return any(f"--agent {one}\n" in lines for one in quoted) or f"--agent\n{agent}\n" in lines


def _untrusted(
    delivery: Delivery, machine: Machine, path: Path, hooks: Mapping[str, Mapping[int, Any]]
) -> list[str]:
    """Return the events whose hooks the host skips, as its user has not trusted them."""
    if delivery.trust is None:
        return []
    config, begin = delivery.trust(machine, path)
    state = toml_text.parse(ConfigFile.read(config).text).get("hooks", {}).get("state", {})
    return [
        event
        for event, places in hooks.items()
        for at in places
        if f"{begin}{_snake(event)}:{at}:0" not in state
    ]


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
