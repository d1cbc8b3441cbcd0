"""A stage on a file or on a server with users, and tabs of a browser."""

from contextlib import AsyncExitStack

import pytest
from browser import chromium
from playwright.async_api import expect

from tests.desk_stories import world
from tests.desk_stories.stage import OnFile, OnServer

LIMIT_S = 100
PATIENCE_MS = 20_000
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(params=[OnFile, OnServer], ids=["file", "server"])
async def stage(request, tmp_path):
    async with request.param(tmp_path) as stage:
        await world.meet(stage)
        yield stage


@pytest.fixture
async def open_tab(tmp_path):
    """Open a tab in a context of its own."""
    async with AsyncExitStack() as stack:
        browser = None

        async def open_tab(**options):
            nonlocal browser
            if browser is None:
                browser = await stack.enter_async_context(chromium(tmp_path, LIMIT_S))
            context = await browser.new_context(**options)
            context.set_default_timeout(PATIENCE_MS)
            return await context.new_page()

        yield open_tab


@pytest.fixture
async def tab(open_tab, stage):
    """A tab of the boss, who was let in."""
    tab = await open_tab()
    await stage.enter(tab)
    return tab
