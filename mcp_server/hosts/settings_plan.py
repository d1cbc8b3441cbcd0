"""Changing some values of a host's settings, and putting back what was there before.

A value is ours as a whole, or one of a list in which others stand, too. As with our entry, all else
in the file stays as it is, the change is planned and shown first, and a file beside the settings
remembers what was there before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcp_server.hosts import json_text
from mcp_server.hosts.entry import PROGRAM
from mcp_server.hosts.host import ConfigText
from mcp_server.hosts.plan import Change, ConfigFile, Plan, UndoFile
from mq9 import InvalidRequest
from mq9.address import shown


@dataclass(frozen=True, slots=True)
class Setting:
    """A value in a host's settings, or one that is added to a list of values.

    It takes the place of hooks in the list that run one of ``commands`` of this program.
    """

    path: tuple[str, ...]
    value: Any
    is_in_list: bool = False
    commands: Sequence[str] = ()

    @property
    def key(self) -> str:
        """The name by which it is remembered."""
        return "/".join(self.path)

    def added_to(self, old: Any) -> Any:
        """Return what stands at the path when ours is there."""
        return [*self._others(old), self.value] if self.is_in_list else self.value

    def taken_from(self, now: Any, before: Any) -> Any:
        """Return what stands at the path without ours; None for nothing."""
        if not self.is_in_list:
            return before if now == self.value else now
        others = self._others(now)
        return None if before is None and not others else others

    def _others(self, values: Any) -> list[Any]:
        if values is None:
            return []
        if not isinstance(values, list):
            raise InvalidRequest(f"{shown('.'.join(self.path))} is not a list")
        return [one for one in values if one != self.value and not runs_ours(one, self.commands)]


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A file of settings, and those of its values that are ours."""

    path: Path
    settings: Sequence[Setting]
    text: ConfigText = json_text


def plan_settings(file: SettingsFile, planned: Change | None = None) -> Plan:
    """Plan to write our settings; ``planned`` is a change of maybe this file, made before."""
    config, undo = _read(file)
    if planned is not None and planned.path == config.path:
        text = (planned.after or b"").decode("utf-8").removeprefix(config.mark)
        config = replace(config, content=planned.after, text=text)
    if not undo.before:
        undo.made_file = config.content is None
    text = config.text
    try:
        for setting in file.settings:
            old = file.text.find(text, setting.path)
            value = setting.added_to(None if old is None else json_text.parse(old))
            if old is not None and json_text.parse(old) == value:
                continue
            for parent in _parents(setting):
                if file.text.find(text, parent) is None:
                    undo.before.setdefault("/".join(parent), None)
            undo.before.setdefault(setting.key, old)
            text = file.text.put(text, setting.path, _to_put(value))
    except InvalidRequest as error:
        raise InvalidRequest(f"{config.path}: {error}. It was left as it is") from None
    return Plan(config.change(text), undo.change(), is_undo=False)


def plan_settings_undo(file: SettingsFile) -> Plan:
    """Plan to put back what was in the place of our settings before they were first written."""
    config, undo = _read(file)
    text: str | None = config.text
    try:
        for setting in file.settings:
            if setting.key in undo.before:
                text = _without(file, setting, text or "", undo.before.pop(setting.key))
        for parent in sorted(undo.before, reverse=True):  # the innermost first
            path = parent.split("/")
            del undo.before[parent]
            if file.text.is_empty(text or "", path):
                text = file.text.drop(text or "", path)
        if config.content is None or (undo.made_file and file.text.is_empty(text or "")):
            text = None
    except InvalidRequest as error:
        raise InvalidRequest(f"{config.path}: {error}. It was left as it is") from None
    return Plan(config.change(text), undo.change(), is_undo=True)


def runs_ours(value: Any, commands: Sequence[str]) -> bool:
    """Tell whether something in a list of hooks runs one of some commands of this program."""
    if isinstance(value, Mapping):
        words = " ".join(map(str, (value.get("command"), *(value.get("args") or ()))))
        return _is_ours(words, commands) or any(runs_ours(one, commands) for one in value.values())
    if isinstance(value, list):
        return any(runs_ours(one, commands) for one in value)
    return isinstance(value, str) and _is_ours(value, commands)


def _is_ours(words: str, commands: Sequence[str]) -> bool:
    return any(found[1] in commands for found in _OURS.finditer(words))


_OURS = re.compile(rf"\b{PROGRAM}(?:\.exe)?['\"]? ([a-z]+) ")


def _read(file: SettingsFile) -> tuple[ConfigFile, UndoFile]:
    config = ConfigFile.read(file.path)
    # Our entry may stand in the same file, and has a memory of its own.
    return config, UndoFile.read(file.path.with_name(f"{file.path.name}.hooks"))


def _without(file: SettingsFile, setting: Setting, text: str, old: str | None) -> str:
    found = file.text.find(text, setting.path)
    if found is None:
        return text
    before = None if old is None else json_text.parse(old)
    value = setting.taken_from(json_text.parse(found), before)
    if value is None:
        return file.text.drop(text, setting.path)
    return file.text.put(text, setting.path, old if value == before and old else _to_put(value))


def _parents(setting: Setting) -> list[tuple[str, ...]]:
    return [setting.path[:depth] for depth in range(1, len(setting.path))]


def _to_put(value: Any) -> list[Any] | str:
    """Return a value as formats take it: a list, to be laid out as the rest is, or JSON."""
    return value if isinstance(value, list) else json.dumps(value, ensure_ascii=False)
