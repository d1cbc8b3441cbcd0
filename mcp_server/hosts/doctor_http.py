"""Checks of ``mq9-mcp doctor`` for HTTP servers of hosts, and for the port of one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mcp_server.hosts.entry import PROGRAM
from mcp_server.hosts.host import Host, Machine, Remote
from mq9.cli.diagnostics import Check, ok, port_in_use, problem, warning
from mq9.http import is_loopback
from mq9.version import VERSION

_TIMEOUT_S = 10.0
_REFUSED = {401, 403}
_HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "mq9-mcp doctor", "version": VERSION},
    },
}
_ACCEPT = {"Accept": "application/json, text/event-stream"}


@dataclass(frozen=True, slots=True)
class RemoteUse:
    """An entry by which a host reaches a server by HTTP."""

    name: str
    host: Host
    remote: Remote


async def check_remote(use: RemoteUse, machine: Machine) -> Check:
    """Greet a server as the host would, and say what keeps the host from using it."""
    url, variable, token = use.remote.url, use.remote.variable, use.remote.token
    if variable is not None:
        token = machine.environment.get(variable)
        if not token:
            return warning(
                use.name,
                f"reaches {url} with the token of {variable}, which is not set here",
                f"set {variable} where {use.host.title} is started",
            )
    try:
        status, version = await _greet(url, token)
    except OSError as error:
        advice = f"start it with {PROGRAM} --http, or name another by {PROGRAM} install --url"
        return problem(use.name, f"no server answers at {url} ({error})", advice)
    if status in _REFUSED:
        whose = "the token in its file" if variable is None else f"the token of {variable}"
        wants = f"refuses {whose}" if token else "wants a token, and the entry has none"
        advice = "take one from the server's --tokens file: the agent's own"
        return problem(use.name, f"the server at {url} {wants} (HTTP {status})", advice)
    if version is None:
        advice = f"name the URL of {PROGRAM} --http, which ends with /mcp"
        return problem(use.name, f"another program answers at {url} (HTTP {status})", advice)
    said = f"reaches the server at {url}"
    if version == VERSION:
        return ok(use.name, said)
    said += f", which is version {version}, and this is {VERSION}"
    return warning(use.name, said, "upgrade the older one, and start it anew")


async def check_mcp_port(number: int) -> Check:
    """Check whether a server could listen on the port for HTTP."""
    where = f"127.0.0.1:{number}"
    taken = await asyncio.to_thread(port_in_use, "port", number, f"{PROGRAM} --http --port PORT")
    if taken is None:
        return ok("port", f"{where} is free")
    try:
        status, version = await _greet(f"http://{where}/mcp", None)
    except OSError:
        return taken
    is_one = version is not None or status in _REFUSED
    return ok("port", f"a server of MCP listens on {where}") if is_one else taken


async def _greet(url: str, token: str | None) -> tuple[int, str | None]:
    """Return the status of a greeting, and the version of our server; None for any other.

    Raises:
        OSError: Nothing answers.
    """
    import httpx2  # noqa: PLC0415  # not before it is used

    headers = _ACCEPT if token is None else {**_ACCEPT, "Authorization": f"Bearer {token}"}
    by_proxy = not is_loopback((urlsplit(url).hostname or "").lower())
    try:
        async with httpx2.AsyncClient(timeout=_TIMEOUT_S, trust_env=by_proxy) as client:
            answer = await client.post(url, json=_HELLO, headers=headers)
            session = answer.headers.get("Mcp-Session-Id")
            if session is not None:
                await client.delete(url, headers={**headers, "Mcp-Session-Id": session})
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        raise OSError(f"{type(error).__name__}: {error}") from None
    return answer.status_code, _version(answer.text)


def _version(text: str) -> str | None:
    """Return the version of our server in an answer, which may be a stream of events."""
    from mcp_server.server import NAME  # noqa: PLC0415  # the SDK takes a second

    for line in text.splitlines():
        try:
            found = json.loads(line.removeprefix("data:"))["result"]["serverInfo"]
        except (ValueError, LookupError, TypeError):
            continue
        if isinstance(found, Mapping) and found.get("name") == NAME:
            return str(found.get("version"))
    return None
