"""The first requests of a client, answered before the MCP SDK is loaded, which takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from mcp_server.settings import Settings, instructions
from mq9.operations.identity import Identity

# The id under which the SDK gets the request that opened the connection. The client has its answer
# already, so the one that the SDK gives under this id is not sent.
ANSWERED_ID = "mq9-mcp:answered"

_MAX_BRACKETS = 100  # the SDK refuses what is nested too deep
_RESERVED = "io.modelcontextprotocol/"
_VERSION = f"{_RESERVED}protocolVersion"
_CLIENT = f"{_RESERVED}clientInfo"
_SUBSCRIPTION = f"{_RESERVED}subscriptionId"
_ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
_LISTS = {"toolsListChanged", "promptsListChanged", "resourcesListChanged"}
_TEXT_MEMBERS = {"name", "title", "version", "description", "websiteUrl"}
_CAPABILITIES = f"{_RESERVED}clientCapabilities"


class EarlyResponder:
    """Answers requests as the SDK would, and leaves to it all that might be answered otherwise.

    Answered are requests about the server itself that are well-formed beyond doubt, beginning with
    the one that opens the connection, which decides the version of the protocol.

    A request to listen for changes of lists is acknowledged at once, since clients wait for that
    before they ask for the tools; the SDK acknowledges it once more. No list ever changes.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._version: str | None = None  # of the protocol, once the connection is open
        self._is_over = False
        self.listening = set[int | str]()

    def respond(self, line: str) -> tuple[bytes | None, str | None]:
        """Answer a line of the client, if that is possible; and what the SDK is to read of it."""
        request = None if self._is_over else _request(line)
        if request is not None and self._only_listens(request):
            self.listening.add(request["id"])
            params = {"_meta": {_SUBSCRIPTION: request["id"]}, "notifications": {}}
            told = {"jsonrpc": "2.0", "method": _ACKNOWLEDGED, "params": params}
            return orjson.dumps(told) + b"\n", line
        version = None if request is None else self._version_of(request)
        result = None
        if request is not None and version is not None:
            result = self._answers.result(version, request["method"])
        if request is None or result is None:
            self._is_over = self._is_over or self._version is None  # the SDK opens the connection
            return None, line
        for_sdk = None
        if self._version is None:
            self._version = version
            for_sdk = orjson.dumps(request | {"id": ANSWERED_ID}).decode() + "\n"
        answer = {"jsonrpc": "2.0", "id": request["id"], "result": result}
        return orjson.dumps(answer) + b"\n", for_sdk

    def _only_listens(self, request: dict[str, Any]) -> bool:
        """Tell whether a request listens for changes of lists, and for nothing else."""
        params = request.get("params") or {}
        lists = params.get("notifications")
        return (
            request["method"] == "subscriptions/listen"
            and self._version is not None
            and params.keys() == {"_meta", "notifications"}
            and isinstance(lists, dict)
            and lists.keys() <= _LISTS
            and all(isinstance(one, bool) for one in lists.values())
            and self._version_of(request | {"params": {"_meta": params["_meta"]}}) is not None
        )

    def _version_of(self, request: dict[str, Any]) -> str | None:
        """Return the version of the protocol of a request; None when it is in doubt."""
        params = request.get("params") or {}
        meta = params.get("_meta", {})
        if not isinstance(meta, dict):
            return None
        open_era = None if self._version is None else self._answers.era(self._version)
        if request["method"] == "initialize":
            version, era = params.get("protocolVersion"), OLDER
            is_sure = open_era is None and _is_initialize(params)
        elif _VERSION in meta:
            version, era = meta[_VERSION], CURRENT
            is_sure = open_era in {None, CURRENT} and _is_enveloped(params)
        else:
            version, era = self._version, OLDER
            is_sure = open_era == OLDER and params.keys() <= {"_meta"} and _is_meta(meta)
        return version if is_sure and self._answers.era(version) == era else None


def acknowledged(message: object) -> int | str | None:
    """Return the id of the request to listen that a message acknowledges; None for any other."""
    if getattr(message, "method", None) != _ACKNOWLEDGED:
        return None
    meta = (getattr(message, "params", None) or {}).get("_meta") or {}
    number: int | str | None = meta.get(_SUBSCRIPTION)
    return number


def _request(line: str) -> dict[str, Any] | None:
    """Return the request in a line; None when it is none, or in doubt."""
    if line.count("{") + line.count("[") > _MAX_BRACKETS:
        return None
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if (
        not isinstance(message, dict)
        or not message.keys() <= {"jsonrpc", "id", "method", "params"}
        or message.get("jsonrpc") != "2.0"
        or type(message.get("id")) not in {int, str}
        or not isinstance(message.get("method"), str)
        or not isinstance(message.get("params"), dict | None)
    ):
        return None
    return message


def _is_initialize(params: dict[str, Any]) -> bool:
    return (
        params.keys() <= {"protocolVersion", "capabilities", "clientInfo", "_meta"}
        and _are_capabilities(params.get("capabilities"))
        and _is_implementation(params.get("clientInfo"))
        and _is_meta(params.get("_meta", {}))
    )


def _is_enveloped(params: dict[str, Any]) -> bool:
    meta = params["_meta"]
    about = meta.get(_CLIENT)
    return (
        params.keys() == {"_meta"}
        and _are_capabilities(meta.get(_CAPABILITIES))
        and (about is None or _is_implementation(about))
        and _is_meta(meta, frozenset({_VERSION, _CLIENT, _CAPABILITIES}))
    )


def _is_meta(meta: dict[str, Any], reserved: frozenset[str] = frozenset()) -> bool:
    return type(meta.get("progressToken", "")) in {int, str} and all(
        name in reserved or not name.startswith(_RESERVED) for name in meta
    )


def _is_implementation(about: object) -> bool:
    """Tell whether a value describes a client, in nothing but text."""
    return (
        isinstance(about, dict)
        and {"name", "version"} <= about.keys() <= _TEXT_MEMBERS
        and all(isinstance(one, str) for one in about.values())
    )


def _are_capabilities(capabilities: object) -> bool:
    """Tell whether a value lists what a client can do, in objects of objects."""
    return isinstance(capabilities, dict) and all(
        isinstance(one, dict) and all(_is_capability(name, *part) for part in one.items())
        for name, one in capabilities.items()
    )


def _is_capability(of: str, name: str, value: object) -> bool:
    if (of, name) == ("roots", "listChanged"):
        return isinstance(value, bool)
    if of == "tasks":
        return isinstance(value, dict) and all(_is_capability(of, *one) for one in value.items())
    return isinstance(value, dict)


OLDER, CURRENT = "older", "current"  # eras of the protocol: with a handshake, and without

# What stands in the recorded answers for the agent's name and the address of its mailbox.
AGENT = "THE-NAME-OF-THE-AGENT"
ADDRESS = "the.address.of.the.agent"

_OF_THE_AGENT = "resources/list"  # names its mailbox

FILE = Path(__file__).with_name("answers.json")


class Answers:
    """The answers that a server with some settings gives."""

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
        """Return the result of a request without parameters; None when it is not known."""
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
