"""Calls of the engine, as the service makes them."""

from mq9.engine import machine, state
from mq9.engine.commands import Actor, Call, Entry, Limits, SetLimits


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
        _apply(connection, Call(SetLimits(limits=limits)), now)
    return _apply(connection, command, now).result()


def _apply(connection, command, now):
    connection.execute("BEGIN")
    try:
        index = state.position(connection).applied + 1
        outcome = machine.apply(connection, Entry(index, now, command))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return outcome
