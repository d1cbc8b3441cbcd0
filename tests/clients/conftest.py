"""A server for programs of others."""

import pytest

from tests.serving import Serving


@pytest.fixture
def served(tmp_path):
    with Serving(tmp_path, "--memory") as server:
        yield server
