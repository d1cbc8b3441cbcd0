"""How a host starts a server: the command, its arguments and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Launch:
    """What a host runs.

    Attributes:
        command: The program.
        arguments: Of its command line.
        environment: The variables that it gets beside those of the host.
    """

    command: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, entry: Any) -> Launch | None:
        """Read an entry of any host; None when it starts no program, or is not an entry."""
        if not isinstance(entry, Mapping):
            return None
        inner = entry.get("transport", entry)  # where Cline's own command has written it
        if not isinstance(inner, Mapping):
            return None
        command, arguments = inner.get("command"), inner.get("args") or []
        if isinstance(command, list) and command:
            command, *arguments = command
        given = inner.get("env") or inner.get("environment") or entry.get("env") or {}
        if not (
            isinstance(command, str)
            and isinstance(arguments, list)
            and isinstance(given, Mapping)
            and all(isinstance(one, str) for one in (*arguments, *given.values()))
        ):
            return None
        return cls(command, tuple(arguments), dict(given))

    def option(self, name: str) -> str | None:
        """Return the value of an option on the command line; None where it is not given."""
        arguments = self.arguments
        for at, one in enumerate(arguments):
            if one == name and at + 1 < len(arguments):
                return arguments[at + 1]
            if one.startswith(f"{name}="):
                return one.partition("=")[2]
        return None
