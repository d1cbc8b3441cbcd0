"""A web page that calls tools, in a browser."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from browser import browsing, needs_browser
from programs import McpServing
from starlette.applications import Starlette
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from users_file import write_users

from mq9.http.port import listening, serving

PAGE = Path(__file__).with_name("page.html")
LIMIT_S = 60
TOKEN = "the-token-of-ada"

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]


class Site:
    """Serves the page on an origin of its own, and hears what it has found."""

    def __init__(self, origin):
        self.origin = origin
        self.told = asyncio.get_running_loop().create_future()

    @property
    def app(self):
        return Starlette(
            routes=[
                Route("/", lambda _request: FileResponse(PAGE)),
                Route("/told", self._hear, methods=["POST"]),
            ]
        )

    async def _hear(self, request):
        self.told.set_result(await request.json())
        return Response()


@asynccontextmanager
async def site():
    """Serve the page on a port that the system assigns."""
    with await listening("port", "127.0.0.1", 0) as listener:
        page = Site(f"http://127.0.0.1:{listener.getsockname()[1]}")
        async with serving(page.app, listener):
            yield page


async def seen(site, directory, url):
    """Open the page in a browser; what it says of a server."""
    async with browsing(directory, LIMIT_S) as tab:
        await tab.goto(f"{site.origin}/?{urlencode({'url': url, 'token': TOKEN})}")
        return await site.told


@pytest.fixture
def users(tmp_path):
    return write_users(tmp_path, f'users = [{{agent = "ada", token = "{TOKEN}"}}]\n')


async def test_a_page_of_an_origin_that_is_given_calls_tools(tmp_path, users):
    async with site() as page:
        options = ("--tokens", str(users), "--allow-origin", page.origin)
        with McpServing(tmp_path, *options, "--server", "memory://page") as server:
            told = await seen(page, tmp_path, server.url)
    assert told["current"] == "ada"
    assert told["older"] == {"name": "ada", "stream": 200, "ended": 200}
    assert told["nobody"]["status"] == 401
    assert told["nobody"]["challenge"].startswith("Bearer ")


async def test_the_browser_lets_no_other_page_see_anything(tmp_path, users):
    async with site() as page:
        options = ("--tokens", str(users), "--allow-origin", "https://app.example")
        with McpServing(tmp_path, *options, "--server", "memory://page") as server:
            told = await seen(page, tmp_path, server.url)
    refused = "TypeError: Failed to fetch"
    assert told == {"current": refused, "older": refused, "nobody": refused}
