"""The server over HTTP in the same process, and clients of it."""

import ssl
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx
import httpx2
from hosting import ERAS, HELLO, META, Host
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken
from starlette.applications import Starlette
from waiting import until

from mcp_server import Callers, Settings, make_server
from mcp_server.http.routes import mcp_routes
from mq9.http.port import listening, serving

CURRENT, OLDER = ERAS


class Variant(NamedTuple):
    era: str
    stateless: bool


VARIANTS = {
    "current": Variant(CURRENT, stateless=False),
    "older": Variant(OLDER, stateless=False),
    "no session": Variant(OLDER, stateless=True),
}
# Nothing is encrypted on loopback, and to load all authorities for each client takes its time.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def by_hand():
    """A client of HTTP that knows nothing of MCP, and waits as long as the test does."""
    return httpx.AsyncClient(verify=_NO_TLS, timeout=None)  # noqa: S113  # see above


@asynccontextmanager
async def served(broker, agent="desk", *, stateless=False, settings=None, **options):
    """Serve on a port that the system assigns; the URL."""
    settings = settings or Settings()
    verified = not {"verifier", "authorization"}.isdisjoint(options)
    callers = Callers(
        lambda name: broker.client(agent=name if verified else None),
        settings,
        agent=None if verified else agent,
    )
    server = make_server(callers, settings, pushes=not stateless)
    with await listening("port", "127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        async with (
            mcp_routes(server, stateless=stateless, clock=broker.clock, **options) as routes,
            serving(Starlette(routes=routes), listener),
        ):
            yield f"http://127.0.0.1:{port}/mcp"


@asynccontextmanager
async def served_to(broker, variant, token=None, **options):
    """Serve, and connect a host by one of the variants."""
    async with (
        served(broker, stateless=variant.stateless, **options) as url,
        connected(url, variant.era, token) as host,
    ):
        yield host


@asynccontextmanager
async def connected(url, era=CURRENT, token=None, **client):
    """Connect a host, which may have a bearer token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    mode = "auto" if era == CURRENT else "legacy"
    async with (
        httpx2.AsyncClient(headers=headers, verify=_NO_TLS, timeout=None) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, **client) as one,
    ):
        assert one.protocol_version == era
        yield Host(one, None, None)


class Names:
    """Says of a token `agent/client` whose it is, and through which client."""

    async def verify_token(self, token):
        agent, _, client = token.partition("/")
        return AccessToken(token=token, client_id=client or "a host", subject=agent, scopes=[])


class Wire:
    """A client without the SDK, for what no well-behaved one does."""

    def __init__(self, url, era=CURRENT, **headers):
        self.url = url
        self.era = era
        self.headers = {
            "Accept": "application/json, text/event-stream",
            **({"MCP-Protocol-Version": era} if era == CURRENT else {}),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }

    def request(self, method, params, **headers):
        """Make a request, to be sent by whoever likes."""
        params = dict(params)
        headers = {**self.headers, **headers}
        if self.era == CURRENT:
            params["_meta"] = META
            headers |= {"Mcp-Method": method}
            headers |= {"Mcp-Name": params["name"]} if "name" in params else {}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return httpx.Request("POST", self.url, headers=headers, json=body)

    async def ask(self, method="tools/list", **params):
        """Ask for something; the response."""
        async with by_hand() as http:
            return await http.send(self.request(method, params))

    async def begin(self):
        """Begin a session, where the server keeps any."""
        response = await self.ask("initialize", **HELLO)
        assert response.status_code == 200
        self.headers["MCP-Protocol-Version"] = self.era
        if "Mcp-Session-Id" in response.headers:
            self.headers["Mcp-Session-Id"] = response.headers["Mcp-Session-Id"]
        return self

    async def call(self, tool, **arguments):
        """Call a tool and wait for its answer, however long."""
        request = self.request("tools/call", {"name": f"mq9_{tool}", "arguments": arguments})
        async with by_hand() as http:
            return await http.send(request)


async def waits(broker, requests=1):
    """Return once so many requests wait for mail."""
    await until(lambda: broker.waiting == requests)
