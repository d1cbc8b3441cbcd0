"""The check of ``mq9-mcp doctor`` on the hooks that tell sessions of mail."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcp_server.hosts import json_text, toml_text
from mcp_server.hosts.delivery import DELIVERIES, Delivery
from mcp_server.hosts.entry import PROGRAM
from mcp_server.hosts.host import Launch, Machine, Scope
from mcp_server.hosts.plan import ConfigFile
from mcp_server.hosts.settings_plan import runs_our_hooks
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
    advice = f"{PROGRAM} install {host}{' --project' if scope == 'project' else ''} --deliver"
    path = delivery.file(machine, scope)
    try:
        hooks = _our_hooks(delivery, path)
        untrusted = _untrusted(delivery, machine, path, hooks)
    except InvalidRequest as error:
        return warning(name, f"{path} cannot be read: {error}", "look at it")
    lines = "".join(f"{text}\n" for text in _texts(hooks))
    missing = [event for event, found in hooks.items() if not found]
    if len(missing) == len(hooks):
        return ok(name, f"waits until a tool is called; to be told of it by itself: {advice}")
    if missing:
        said = f"{path} has no hook of ours at {', '.join(missing)}"
    elif not _is_of(agent, lines):
        said = f"the hooks in {path} are of another agent than {agent}"
    elif launch.command not in lines:
        said = f"the hooks in {path} run another program than {launch.command}"
    elif untrusted:
        said = f"{host} skips the hooks of {path} that are not trusted: {', '.join(untrusted)}"
        advice = delivery.to_do[0]
    else:
        return ok(name, f"is told to a session {delivery.when}; {_policy(launch)}")
    return warning(name, said, advice)


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


def _our_hooks(delivery: Delivery, path: Path) -> dict[str, dict[int, Any]]:
    """Return our hooks by their events and by their places among those of others."""
    text = ConfigFile.read(path).text
    document = json_text.parse(text) if text.strip() else {}
    hooks = document.get("hooks", {}) if isinstance(document, Mapping) else None
    if not isinstance(hooks, Mapping):
        raise InvalidRequest("hooks: it is not an object")
    return {
        event: {at: one for at, one in enumerate(hooks.get(event) or ()) if runs_our_hooks(one)}
        for event in delivery.events
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
