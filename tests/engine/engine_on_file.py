"""An engine on a file that measures its writes."""

from calls import Engine, call

from mq9.protocol import requests

HOUR_MS = 3_600_000


class EngineOnFile(Engine):
    """An engine on a file, with a mailbox."""

    def __init__(self, path):
        super().__init__(path)
        self.path = path
        self.connection.execute("PRAGMA wal_autocheckpoint=0")
        self.apply(call(requests.CreateMailbox))

    def written(self, work):
        """Do something; how many bytes that wrote."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        work()
        return self.path.with_name(self.path.name + "-wal").stat().st_size
