"""The pytest fixture ``mq9_broker``; pytest finds it where the package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mq9.testing.fake import FakeBroker


@pytest.fixture
def mq9_broker() -> Iterator[FakeBroker]:
    """A broker of the test's own, under a clock that the test moves.

    A wait that the test does not end by moving the clock ends by itself.
    """
    from mq9.testing.fake import FakeBroker  # noqa: PLC0415  # only for tests that want it

    with FakeBroker() as broker:
        yield broker
