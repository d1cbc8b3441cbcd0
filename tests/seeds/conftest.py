"""A server for the pages, and a client of it."""

import pytest

from mq9 import Mq9Client
from tests.serving import Serving


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("served"), "--memory") as server:
        yield server


@pytest.fixture
async def client(served):
    async with Mq9Client(served.url) as client:
        yield client
