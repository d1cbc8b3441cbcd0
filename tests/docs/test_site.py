"""The documentation site, as `make docs` built it, opened in a browser from its files."""

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

SITE = Path(__file__).parents[2] / "build/site"
# The one that a web server shows for what is not there names its files as that server would.
PAGES = sorted({str(page.relative_to(SITE)) for page in SITE.rglob("*.html")} - {"404.html"})
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
)
NARROW, WIDE = 390, 1280
LIMIT_S = 100

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="there is no Chromium, which make browser installs on Debian for its superuser",
    ),
]


class Tab:
    """A tab of a browser, driven by the DevTools protocol, and what went wrong in it."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self._asked = {}
        self._session = {}
        self._loaded = asyncio.Event()
        self.complaints = []
        self.requests = []

    async def begin(self):
        """Make the tab, and have it report."""
        made = await self.ask("Target.createTarget", url="about:blank")
        target = {"targetId": made["targetId"], "flatten": True}
        self._session = await self.ask("Target.attachToTarget", **target)
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.ask(f"{domain}.enable")

    async def listen(self):
        """Take in what the browser says, until the connection ends."""
        async for text in self._socket:
            said = json.loads(text)
            if "id" in said:
                self._asked.pop(said["id"]).set_result(said)
            else:
                self._note(said["method"], said["params"])

    def _note(self, event, params):
        if event == "Page.loadEventFired":
            self._loaded.set()
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Network.loadingFailed":
            self.complaints.append(f"not loaded: {params['errorText']}")
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(f"thrown: {params['exceptionDetails']}")
        elif event == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning"}:
            self.complaints.append(f"console: {params['args']}")
        elif event == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(f"log: {params['entry']['text']}")

    async def ask(self, method, **params):
        """Call a method of the DevTools protocol; its result."""
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        request = {"id": number, "method": method, "params": params, **self._session}
        await self._socket.send(json.dumps(request))
        answer = await self._asked[number]
        assert "error" not in answer, (method, answer)
        return answer["result"]

    async def evaluate(self, expression):
        """The value of an expression in the page; of a promise, what it promised."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = await self.ask("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def resize(self, width):
        """Show the page in a window of another width."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        await self.ask("Emulation.setDeviceMetricsOverride", **size)

    async def open(self, page):
        """Open a page of the site, and wait until all that belongs to it is loaded."""
        self._loaded.clear()
        await self.ask("Page.navigate", url=(SITE / page).as_uri())
        await self._loaded.wait()


@asynccontextmanager
async def devtools(directory):
    """Start a browser; where it speaks the DevTools protocol."""
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *OPTIONS,
        f"--user-data-dir={directory / 'profile'}",
        env={"HOME": str(directory), "PATH": os.defpath},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said = None
        while said is None:
            line = await process.stderr.readline()
            assert line, "the browser ended"
            said = re.search(rb"listening on (ws://\S+)", line)
        yield said[1].decode()
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it and what it has started
        await process.communicate()


@pytest.fixture
async def tab(tmp_path):
    async with (
        asyncio.timeout(LIMIT_S),
        devtools(tmp_path) as url,
        connect(url, max_size=None) as socket,
    ):
        tab = Tab(socket)
        listening = asyncio.create_task(tab.listen())
        await tab.begin()
        yield tab
        await socket.close()
        await listening


DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


async def test_pages_fit_complain_of_nothing_and_ask_no_other_host(tab):
    assert PAGES
    for page in PAGES:
        await tab.resize(WIDE)
        await tab.open(page)
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
    await tab.open("index.html")
    assert "dead letter" in (await tab.evaluate(FOUND)).lower()
    assert not tab.complaints
