"""A browser without a window, on a profile of its own."""

import asyncio
import os
import shutil
from contextlib import asynccontextmanager

import pytest

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

_PATIENCE_MS = 20_000

needs_browser = pytest.mark.skipif(
    _CHROMIUM is None,
    reason="there is no Chromium, which make browser installs on Debian for its superuser",
)


@asynccontextmanager
async def chromium(directory, limit_s):
    """Run the browser for at most `limit_s` seconds; it is one of playwright's.

    The browser is the system's. Playwright downloads none.

    Args:
        directory: The home of the browser.
        limit_s: Seconds after which the test fails.
    """
    from playwright.async_api import async_playwright  # takes its time, also where no test runs

    environment = {"HOME": str(directory), "PATH": os.defpath}
    async with (
        asyncio.timeout(limit_s),
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=_CHROMIUM, args=_OPTIONS, env=environment
        ) as browser,
    ):
        yield browser


@asynccontextmanager
async def browsing(directory, limit_s):
    """Open a page in a browser of its own, as `chromium` runs it."""
    async with chromium(directory, limit_s) as browser:
        yield await browser.new_page()


class Windows:
    """Windows of a browser, each with cookies of its own, and what went wrong in them.

    Attributes:
        heard: What went wrong: dialogs that opened, errors of scripts, and those of the console
            except what it says of each answer that is an error.
        asked: The URLs that were asked for.
    """

    def __init__(self, browser):
        self._browser = browser
        self.heard = []
        self.asked = []

    async def open(self, url=None, *, width=1280, height=900, dark=False, script=True, **options):
        """Open a window at a URL; its page.

        Args:
            url: Where it begins; None for nowhere.
            width: Pixels.
            height: Pixels.
            dark: Whether the person prefers dark pages.
            script: Whether pages may run scripts.
            options: Further ones of a context.
        """
        context = await self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            **options,
        )
        context.set_default_timeout(_PATIENCE_MS)
        context.on("page", self._watch)
        page = await context.new_page()
        if url is not None:
            await page.goto(url)
        return page

    def _watch(self, page):
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.heard.append(f"error: {error}"))
        page.on("dialog", self._close)
        page.on("request", lambda request: self.asked.append(request.url))

    def _note(self, message):
        is_status = message.text.startswith("Failed to load resource: ")
        if message.type in {"error", "warning"} and not is_status:
            self.heard.append(f"{message.type}: {message.text}")

    async def _close(self, dialog):
        self.heard.append(f"dialog: {dialog.message}")
        await dialog.dismiss()
