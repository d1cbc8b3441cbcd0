"""A server in this process, with its broker, on a port that the system assigns."""

from contextlib import asynccontextmanager

import loopback
import nats
from raw import RawClient

from mq9 import Mq9Client, Role
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.dialects import Dialects
from mq9.engine.commands import Limits
from mq9.server.server import Server
from mq9.server.users import Admitted
from mq9.testing import ManualClock


@asynccontextmanager
async def running(**options):
    """Run a server and a broker of its own, both by the system's clock."""
    broker = EmbeddedBroker.in_memory(SystemClock())
    server = Server(broker, **{"max_payload": Limits().max_payload, **options})
    await server.start(port=0)
    try:
        yield server
    finally:
        await server.close()
        await broker.close()


def url_for(server, credentials):
    """Return the URL by which a client shows a token, or `user:password`."""
    return server.url.replace("//", f"//{credentials}@")


class TrustingGuard:
    """Takes every client for the agent that it says it is; its password may be a role.

    The user name ``-`` is that of a client without an agent.
    """

    is_open = True
    reserved = None

    def knows(self, _admitted):
        return True

    async def admit(self, credentials, _address):
        agent, role = credentials.get("user"), credentials.get("pass")
        return Admitted(None if agent == "-" else agent, Role(role) if role in set(Role) else None)


class Hosted:
    """A server, its broker, and the clients that a test opens, all closed with it."""

    def __init__(
        self,
        stack,
        *,
        clock=None,
        timers=None,
        wrap=None,
        dialects=Dialects.ALL,
        path=None,
        **options,
    ):
        self.stack = stack
        self.clock = clock or ManualClock(in_transit=loopback.in_transit)
        self.timers = timers or ManualClock(in_transit=loopback.in_transit)
        self.events = []
        if path is None:
            self.broker = EmbeddedBroker.in_memory(self.clock, dialects=dialects)
        else:
            self.broker = EmbeddedBroker.on_file(path, self.clock, dialects=dialects)
        if wrap is not None:
            self.broker = wrap(self.broker)
        options = {"max_payload": Limits().max_payload, **options}
        self.server = Server(self.broker, timers=self.timers, observer=self, **options)

    async def restart(self, **options):
        """Start another server in place of this one, on its port, with the same broker."""
        port = self.server.address[1]
        await self.server.close()
        options = {"max_payload": Limits().max_payload, **options}
        self.server = Server(self.broker, timers=self.timers, observer=self, **options)
        await self.server.start(port=port)
        self.stack.push_async_callback(self.server.close)

    def connection_opened(self):
        self.events.append("opened")

    def connection_closed(self, reason):
        self.events.append(reason)

    def publish_unheard(self):
        self.events.append("unheard")

    async def raw(self, **options):
        """Return a raw client that has said who it is."""
        return await self.stack.enter_async_context(
            await RawClient.connect(self.server.address, **options)
        )

    async def stranger(self):
        """Return a raw client that has said nothing."""
        return await self.stack.enter_async_context(await RawClient.open(self.server.address))

    async def nats(self, **options):
        """Return a client of nats-py."""
        client = await nats.connect(self.server.url, **{"allow_reconnect": False, **options})
        self.stack.push_async_callback(client.close)
        return client

    async def client(self, credentials="", **options):
        """Return a client of ours."""
        url = self.server.url.replace("//", f"//{credentials}")
        return await self.stack.enter_async_context(
            Mq9Client(url, **{"clock": self.clock, **options})
        )
