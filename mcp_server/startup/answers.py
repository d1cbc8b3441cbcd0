"""The recorded answers about the server itself: what it is and what it offers.

They are those of the MCP SDK, which takes a second to load. They are kept in
``answers.json``, which ``make generated`` records, and need but be filled in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from mcp_server.instructions import instructions
from mcp_server.settings import Settings
from mq9.operations.identity import Identity

OLDER, CURRENT = "older", "current"  # eras of the protocol: with a handshake, and without

# What stands in the recorded answers for the agent's name and the address of its mailbox.
AGENT = "THE-NAME-OF-THE-AGENT"
ADDRESS = "the.address.of.the.agent"

_OF_THE_AGENT = "resources/list"  # names its mailbox

FILE = Path(__file__).with_name("answers.json")


class Answers:
    """The answers that a server with some settings gives.

    Args:
        settings: What it offers.
        identity: The agent that it serves; None while that is not known.

    Attributes:
        sdk: The version of the MCP SDK that gave them.
    """

    def __init__(self, settings: Settings, identity: Identity | None) -> None:
        recorded = orjson.loads(FILE.read_bytes())
        self.sdk: str = recorded["sdk"]
        self._versions: dict[str, str] = recorded["versions"]
        self._results: dict[str, dict[str, Any]] = recorded["results"]
        self._instructions = instructions(identity, settings.names)
        self._is_known = identity is not None
        self._filled = (
            {} if identity is None else {AGENT: identity.name, ADDRESS: identity.mail_address}
        )
        self._lists = {
            name: [
                _as_served(name, self._fill(one["item"]), settings)
                for one in items
                if settings.allowed.issuperset(one["needs"])
            ]
            for name, items in recorded["lists"].items()
        }

    def era(self, version: object) -> str | None:
        """Return the era of a version of the protocol; None when no answers are known for it."""
        return self._versions.get(version) if isinstance(version, str) else None

    def result(self, version: str, method: str) -> dict[str, Any] | None:
        """Return the result of a request without parameters; None when it is not known.

        Args:
            version: A version of the protocol that has an era.
            method: What is asked.
        """
        recorded = self._results[self._versions[version]].get(method)
        if recorded is None or (method == _OF_THE_AGENT and not self._is_known):
            return None
        lists = {name: self._lists[name] for name in recorded.keys() & self._lists.keys()}
        result: dict[str, Any] = self._fill(recorded) | lists
        if "instructions" in result:
            result["instructions"] = self._instructions
        return result | {"protocolVersion": version} if method == "initialize" else result

    def _fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._fill(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._fill(one) for one in value]
        if isinstance(value, str):
            for mark, meant in self._filled.items():
                if mark in value:
                    before, _, behind = value.partition(mark)
                    return self._fill(before) + meant + self._fill(behind)
        return value


def _as_served(kind: str, item: dict[str, Any], settings: Settings) -> dict[str, Any]:
    if kind != "tools":
        return item
    return item | {
        "name": settings.prefix + item["name"],
        "description": settings.names.text(item["description"]),
    }
