"""What a registration says to people, apart from what it says to programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OWN_FIELDS = frozenset({"name", "mailbox", "ttl"})  # at the top of what an agent registers
# What an AgentCard says to programs; the rest is text that agents are found by.
_TECHNICAL = frozenset(
    (
        *("id", "uri", "url", "iconurl", "documentationurl", "version", "protocolversion"),
        *("defaultinputmodes", "defaultoutputmodes", "inputmodes", "outputmodes"),
        *("supportedinterfaces", "additionalinterfaces", "preferredtransport"),
        *("securityschemes", "securityrequirements", "security", "signatures"),
    )
)
# The fields of an AgentCard; below any other field a registration has names of its own.
_OF_CARD = frozenset(("description", "skills", "tags", "examples", "capabilities", "provider"))


def for_people(registered: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an agent registered, without its name and what is meant for programs."""
    return {
        field: _pruned(value) if field in _OF_CARD else value
        for field, value in registered.items()
        if field not in OWN_FIELDS and not _is_technical(field)
    }


def _pruned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            field: _pruned(one) for field, one in value.items() if not _is_technical(str(field))
        }
    return [_pruned(one) for one in value] if isinstance(value, list) else value


def _is_technical(field: str) -> bool:
    return field.replace("_", "").lower() in _TECHNICAL
