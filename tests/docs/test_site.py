"""The documentation site, as `make docs` built it, opened in a browser from its files."""

import re
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from browser import browsing, needs_browser

SITE = Path(__file__).parents[2] / "build/site"
# The one that a web server shows for what is not there names its files as that server would.
PAGES = sorted({str(page.relative_to(SITE)) for page in SITE.rglob("*.html")} - {"404.html"})
NARROW, WIDE = 390, 1280
LIMIT_S = 100

pytestmark = [pytest.mark.site, needs_browser]


@asynccontextmanager
async def tab(directory):
    """Open a page; it, what goes wrong in it, and the URLs it asks for."""
    async with browsing(directory, LIMIT_S) as page:
        complaints, requests = [], []

        def hear(said):
            if said.type in {"error", "warning"}:
                complaints.append(f"console: {said.text}")

        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(f"thrown: {error}"))
        page.on("requestfailed", lambda one: complaints.append(f"not loaded: {one.url}"))
        page.on("request", lambda one: requests.append(one.url))
        yield page, complaints, requests


async def resize(page, width):
    await page.set_viewport_size({"width": width, "height": 900})


DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


async def test_pages_fit_complain_of_nothing_and_ask_no_other_host(tmp_path):
    assert PAGES
    async with tab(tmp_path) as (page, complaints, requests):
        for path in PAGES:
            await resize(page, WIDE)
            await page.goto((SITE / path).as_uri())
            for width in (WIDE, NARROW):
                await resize(page, width)
                await page.evaluate(DRAWN)
                needed = await page.evaluate("document.documentElement.scrollWidth")
                assert needed <= width, path
            assert not complaints, path
    assert {url.partition(":")[0] for url in requests} == {"file"}


async def test_the_search_finds_a_page_without_a_server(tmp_path):
    async with tab(tmp_path) as (page, complaints, _):
        await page.goto((SITE / "index.html").as_uri())
        for words, first in (("dead letter", "dead letter"), ("claude code", "connect mcp hosts")):
            await page.get_by_role("button", name="Search").click()
            await page.get_by_role("combobox", name="Search").fill(words)
            found = page.get_by_role("option").first
            await found.wait_for()
            assert first in (await found.inner_text()).lower()
            await page.reload()
        assert not complaints


# Left over where something was to be written, or was not rendered.
PLACEHOLDER = re.compile(
    r"\{\{ *[a-z_.]+ *\}\}|\{%|<p>:::|\bTODO\b|\bTBD\b|\bFIXME\b|<!-- program: \S+ -->\s*<!--"
)


def test_no_page_has_a_placeholder_left():
    found = {
        path: leftover.group()
        for path in PAGES
        if (leftover := PLACEHOLDER.search((SITE / path).read_text("utf-8")))
    }
    assert not found


def test_the_pages_of_the_python_reference_are_rendered():
    client = (SITE / "reference/python/client.html").read_text("utf-8")
    assert 'id="mq9.Mq9Client.send"' in client
