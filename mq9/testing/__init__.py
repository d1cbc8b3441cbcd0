"""Tools to test agents: a broker with a clock that the test moves.

::

    async def test_worker(mq9_broker):
        async with mq9_broker.client() as client:
            ...
            await mq9_broker.clock.advance(60)

``mq9_broker`` is a pytest fixture that comes with the package. It is a ``FakeBroker``, which also
works without pytest.
"""

from mq9.engine.commands import Limits
from mq9.testing.clock import ManualClock
from mq9.testing.fake import FakeBroker

__all__ = ["FakeBroker", "Limits", "ManualClock"]
