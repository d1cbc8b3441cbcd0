"""The documentation site, as `make docs` built it, opened in a browser from its files."""

from pathlib import Path

import pytest
from browser import browsing, needs_browser

SITE = Path(__file__).parents[2] / "build/site"
# The one that a web server shows for what is not there names its files as that server would.
PAGES = sorted({str(page.relative_to(SITE)) for page in SITE.rglob("*.html")} - {"404.html"})
NARROW, WIDE = 390, 1280
LIMIT_S = 100

pytestmark = [pytest.mark.site, needs_browser]


@pytest.fixture
async def tab(tmp_path):
    async with browsing(tmp_path, LIMIT_S) as tab:
        yield tab


DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


async def test_pages_fit_complain_of_nothing_and_ask_no_other_host(tab):
    assert PAGES
    for page in PAGES:
        await tab.resize(WIDE)
        await tab.open((SITE / page).as_uri())
        for width in (WIDE, NARROW):
            await tab.resize(width)
            await tab.evaluate(DRAWN)
            needed = await tab.evaluate("document.documentElement.scrollWidth")
            assert needed <= width, page
        assert not tab.complaints, page
    assert {url.partition(":")[0] for url in tab.requests} <= {"file", "data"}


FOUND = """
new Promise((resolve) => {
  const results = document.querySelector(".md-search-result__list");
  const look = () => results.querySelector("a") && resolve(results.innerText);
  new MutationObserver(look).observe(results, {childList: true, subtree: true});
  const asked = document.querySelector(".md-search__input");
  asked.focus();
  asked.value = "dead letter";
  asked.dispatchEvent(new Event("keyup"));
})
"""


async def test_the_search_finds_a_page_without_a_server(tab):
    await tab.open((SITE / "index.html").as_uri())
    assert "dead letter" in (await tab.evaluate(FOUND)).lower()
    assert not tab.complaints
