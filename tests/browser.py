"""A browser without a window, on a profile of its own."""

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
)

needs_browser = pytest.mark.skipif(
    _CHROMIUM is None,
    reason="there is no Chromium, which make browser installs on Debian for its superuser",
)


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

    async def open(self, url):
        """Open a page, and wait until all that belongs to it is loaded."""
        self._loaded.clear()
        await self.ask("Page.navigate", url=url)
        await self._loaded.wait()


@asynccontextmanager
async def _devtools(directory):
    """Start a browser; where it speaks the DevTools protocol."""
    process = await asyncio.create_subprocess_exec(
        _CHROMIUM,
        *_OPTIONS,
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


@asynccontextmanager
async def browsing(directory, limit_s):
    """Open a tab for so many seconds at the most.

    Args:
        directory: Where the browser may write.
        limit_s: After how many seconds the test fails.
    """
    async with (
        asyncio.timeout(limit_s),
        _devtools(directory) as url,
        connect(url, max_size=None) as socket,
    ):
        tab = Tab(socket)
        listening = asyncio.create_task(tab.listen())
        try:
            await tab.begin()
            yield tab
        finally:
            await socket.close()
            await listening
