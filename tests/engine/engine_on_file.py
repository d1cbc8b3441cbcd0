"""An engine on a file, whose writes are measured."""

from calls import call, carry_out

from mq9.protocol import requests
from mq9.storage import store

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


class EngineOnFile:
    """An engine on a file, with a mailbox."""

    def __init__(self, path):
        self.path = path
        self.connection = store.open_file(path)
        self.connection.execute("PRAGMA wal_autocheckpoint=0")
        self.now = START_MS
        self.apply(call(requests.CreateMailbox))

    def apply(self, command):
        return carry_out(self.connection, command, self.now)

    def ack(self, msg_id, consumer="one", **options):
        ack = call(requests.Ack, group_name="g", msg_id=msg_id, consumer=consumer, **options)
        return self.apply(ack)

    def count(self, table, where="true"):
        count = f"SELECT count(*) FROM {table} WHERE {where}"  # noqa: S608  # our own tables
        return self.connection.execute(count).fetchone()[0]

    def written(self, work):
        """Do something; how many bytes that wrote."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        work()
        return self.path.with_name(self.path.name + "-wal").stat().st_size
