"""Fixtures of the engine's tests."""

from contextlib import closing

import pytest

from mq9.storage import store


@pytest.fixture
def connection():
    """A database without anything in it."""
    with closing(store.open_memory()) as connection:
        yield connection
