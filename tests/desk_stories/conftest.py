"""A file of somebody's own, their desk as a program, and windows in a browser."""

import pytest
from browser import Windows, chromium

from mq9 import Mq9Client
from tests.desk_stories.programs import DeskProgram

_LIMIT_S = 110


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/mq9.db"


@pytest.fixture
async def client(url):
    async with Mq9Client(url) as client:
        for name in ("boss", "ada"):
            await client.mailbox_create(name=name)
        yield client


@pytest.fixture
def desk(tmp_path, url):
    """The desk of the boss on the file; it ends well."""
    with DeskProgram(tmp_path, url) as desk:
        yield desk


@pytest.fixture
async def windows(tmp_path):
    """Windows of a browser, in which nothing went wrong."""
    async with chromium(tmp_path, _LIMIT_S) as browser:
        windows = Windows(browser)
        yield windows
    assert windows.heard == []
