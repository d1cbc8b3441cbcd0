"""The documentation site, as `make docs` built it, opened in a browser from its files."""

import re
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import browsing, needs_browser

SITE = Path(__file__).parents[2] / "build/site"
# The one that a web server shows for what is not there names its files as that server would.
PAGES = sorted({str(page.relative_to(SITE)) for page in SITE.rglob("*.html")} - {"404.html"})
NARROW, WIDE = 390, 1280
LIMIT_S = 100

pytestmark = pytest.mark.site


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


@needs_browser
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


@needs_browser
async def test_the_search_finds_pages_without_a_server(tmp_path):
    from playwright.async_api import expect  # takes its time, also where no test runs

    async with tab(tmp_path) as (page, complaints, _):
        await page.goto((SITE / "index.html").as_uri())
        await page.get_by_role("button", name="Search").click()
        for words, found in (
            ("claude code", "how-to/mcp-hosts.html"),
            ("dead letter", "how-to/workers.html"),
        ):
            box = page.get_by_role("combobox", name="Search")
            await box.fill("")
            await box.press_sequentially(words)
            # The address holds the words, so it is a result of all of them.
            link = (SITE / found).as_uri() + "?h=" + words.replace(" ", "+")
            first = page.get_by_role("option").first
            await expect(first).to_have_attribute("href", re.compile("^" + re.escape(link)))
        assert not complaints


# Left over where something was to be written, or was not rendered.
PLACEHOLDER = re.compile(
    r"\{\{ *[\w.-]+ *\}\}"  # a variable of a template
    r"|\{%"
    r"|<(?:p|li|td)>\s*:::"  # a directive
    r"|\b(?:TODO|TBD|FIXME)\b"
    r"|<!-- generated -->"
    r"|<!-- (?:program: )?([\w-]+)(?:: [^>]*)? -->\s*<!-- (?:\1|program): end -->"
)


def test_no_page_has_a_placeholder_left():
    assert PAGES
    found = {
        path: leftover.group()
        for path in PAGES
        if (leftover := PLACEHOLDER.search((SITE / path).read_text("utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "<p>Version {{ version }}</p>",
        "<p>{% if released %}</p>",
        "<li>\n::: mq9.Mailbox</li>",
        "<!-- TODO: the limits -->",
        "<!-- generated -->",
        "<!-- rates: written by make bench-page -->\n\n<!-- rates: end -->",
        "<!-- program: mq9 -->\n<!-- program: end -->",
    ],
)
def test_a_placeholder_is_noticed(text):
    assert PLACEHOLDER.search(text)


@pytest.mark.parametrize(
    "text",
    [
        """--args '{{"invoice": 7}}'""",
        "<!-- rates: written by make bench-page -->\n<table>\n<!-- rates: end -->",
        "<!-- rates: end -->\n<!-- costs: written by make bench-page -->",
    ],
)
def test_what_is_filled_is_no_placeholder(text):
    assert not PLACEHOLDER.search(text)


LINK = re.compile(r"""(?:href|src)=["']?([^"'\s>#?]+)""")


def test_every_file_that_a_page_names_exists():
    missing = {
        (path, link)
        for path in PAGES
        for link in map(unquote, LINK.findall((SITE / path).read_text("utf-8")))
        if ":" not in link and not (SITE / path).parent.joinpath(link).exists()
    }
    assert not missing


def test_the_pages_of_the_python_reference_are_rendered():
    client = (SITE / "reference/python/client.html").read_text("utf-8")
    assert 'id="mq9.Mq9Client.send"' in client
