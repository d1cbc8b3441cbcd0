"""Calls of the engine, as the service makes them."""

from mq9.engine import machine
from mq9.engine.commands import Actor, Call, Entry, Limits, SetLimits
from mq9.protocol import requests
from mq9.storage import store

START_MS = 1_700_000_000_000


def call(kind, address="box", *, agent=None, connection="", payload=b"", token="aa", **fields):  # noqa: S107  # of a mailbox
    """A call of the engine.

    Args:
        kind: What is asked.
        address: Of which mailbox.
        agent: Who has authenticated.
        connection: The consumer, where the request names none.
        payload: What travels.
        token: What no other mailbox has.
        fields: What the request says.
    """
    return Call(kind(**fields), address, Actor(agent), connection, payload, token)


def carry_out(connection, command, now, limits=Limits()):
    """Have the engine carry out a call at an instant, in a transaction of its own; what it gives.

    Raises:
        Mq9Error: It was refused.
    """
    if limits != machine.Applying(connection).limits:
        _apply(connection, [Call(SetLimits(limits=limits))], now)
    return _apply(connection, [command], now)


def _apply(connection, commands, now):
    value = None
    connection.execute("BEGIN")
    try:
        applying = machine.Applying(connection)
        for command in commands:
            entry = Entry(applying.position.applied + 1, now, command)
            value = applying.apply(entry).result()
        applying.finish()
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return value


class Engine:
    """An engine at an instant that the test sets.

    Args:
        path: Of its file; without one it is in memory.
        limits: What it takes.
    """

    def __init__(self, path=None, limits=Limits()):
        self.connection = store.open_memory() if path is None else store.open_file(path)
        self.limits = limits
        self.now = START_MS

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.connection.close()

    def apply(self, *commands):
        """Carry out calls in one transaction; what the last of them comes to."""
        if len(commands) == 1:
            return carry_out(self.connection, *commands, self.now, self.limits)
        return _apply(self.connection, commands, self.now)

    def read(self, query):
        """Return what a query comes to."""
        return machine.read(self.connection, query, self.now)

    def send(self, count=1, **options):
        """Send messages, in one transaction."""
        self.apply(*[call(requests.Send, **{"payload": b"x", **options})] * count)

    def fetch(self, consumer="one", **options):
        return self.apply(call(requests.Fetch, group_name="g", consumer=consumer, **options))

    def ack(self, msg_id, consumer="one", **options):
        ack = call(requests.Ack, group_name="g", msg_id=msg_id, consumer=consumer, **options)
        return self.apply(ack)

    def count(self, table, where="true"):
        count = f"SELECT count(*) FROM {table} WHERE {where}"  # noqa: S608  # our own tables
        return self.connection.execute(count).fetchone()[0]
