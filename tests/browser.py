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

needs_browser = pytest.mark.skipif(
    _CHROMIUM is None,
    reason="there is no Chromium, which make browser installs on Debian for its superuser",
)


@asynccontextmanager
async def chromium(directory, limit_s):
    """Start a browser for at most `limit_s` seconds; it is one of playwright's.

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
    """Open a page for at most `limit_s` seconds, in a browser of its own."""
    async with chromium(directory, limit_s) as browser:
        yield await browser.new_page()
