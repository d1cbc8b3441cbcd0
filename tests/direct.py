"""Clients of a broker in this process."""

from mq9 import Mq9Client
from mq9.broker.asked import BrokerSession
from mq9.transport.direct import DirectTransport


def client_of(broker, session="session", *, closes=False, **options):
    """Return a client of a broker, which outlives it unless it is to be closed with the client.

    Args:
        broker: The broker.
        session: The connection: a session of the broker, or the name of one.
        closes: Whether the broker is closed with the client.
        options: Of the client.
    """

    async def release():
        if closes:
            await broker.close()

    session = session if isinstance(session, BrokerSession) else BrokerSession(session)
    return Mq9Client(transport=DirectTransport(broker, session, release), **options)
