"""A log on real servers, on which things happen when a test says so."""

from mq9.cluster.jetstream import JetStreamLog

_BYTES = 8


class LogOfTheTest(JetStreamLog):
    """A log whose records bear the time of a clock that the test moves.

    Args:
        client: The connection.
        timers: Measures how long is tried.
        name: Of the stream.
        clock: Tells when something is appended.
    """

    def __init__(self, client, timers, name, clock):
        super().__init__(client, timers, name)
        self._moved = clock

    async def append(self, data, record_id):
        now = self._moved.now_ms().to_bytes(_BYTES)
        return await super().append(now + data, record_id)

    async def last(self):
        return (await super().last())._replace(now_ms=self._moved.now_ms())

    async def read(self, first):
        return [_moved(logged) for logged in await super().read(first)]

    async def follow(self, on_logged):
        return await super().follow(lambda logged: on_logged(_moved(logged)))


def _moved(logged):
    return logged._replace(now_ms=int.from_bytes(logged.data[:_BYTES]), data=logged.data[_BYTES:])
