"""NATS servers with gateways, in this process or as programs, and who is connected to them."""

import asyncio
import json
from contextlib import AsyncExitStack, suppress

import nats
import nats.errors
from nats_server import NatsCluster
from serving import Serving
from typer.testing import CliRunner
from waiting import until

from mq9 import Mq9Client
from mq9.cli.app import app
from mq9.clock import SystemClock
from mq9.cluster.member import joined
from mq9.server.limits import SnapshotLimits


async def call_cluster(url, *arguments, timeout=30):
    """Call `mq9 cluster`; its exit code and its document."""
    command = ["--url", url, "--json", "--timeout", str(timeout), "cluster", *arguments]
    done = await asyncio.to_thread(CliRunner().invoke, app, list(map(str, command)))
    return done.exit_code, json.loads(done.stdout)


async def is_due(member, **limits):
    """Whether a snapshot is due."""
    log = await member.backend.log.last()
    return await member.snapshots.is_due(member.backend.changed, log, SnapshotLimits(**limits))


class Cluster:
    """NATS servers with JetStream, clients and operators.

    Args:
        directory: Where they may write.
        stack: Ends them.
        servers: The NATS servers, which are not running yet.
    """

    def __init__(self, directory, stack, servers):
        self.directory = directory
        self.stack = stack
        self.servers = stack.enter_context(servers)

    @property
    def url(self):
        return ",".join(self.servers.urls)

    async def client(self, url=None, **options):
        return await self.stack.enter_async_context(Mq9Client(url or self.url, **options))

    async def inbox(self):
        """A client, with a mailbox."""
        client = await self.client()
        await client.mailbox_create(name="inbox")
        return client

    async def asker(self):
        """A plain client of NATS."""
        asker = await nats.connect(self.servers.urls)
        self.stack.push_async_callback(asker.close)
        return asker

    async def append(self, data):
        """Append to the log as another program would."""
        jetstream = (await self.asker()).jetstream()
        [subject] = (await jetstream.stream_info("MQ9")).config.subjects
        await jetstream.publish(subject, data)

    async def limit_log(self, max_bytes):
        """Set the limit of the stream, as an operator does."""
        asker = await self.asker()
        info = json.loads((await asker.request("$JS.API.STREAM.INFO.MQ9", b"")).data)
        wanted = json.dumps({**info["config"], "max_bytes": max_bytes}).encode()
        updated = json.loads((await asker.request("$JS.API.STREAM.UPDATE.MQ9", wanted)).data)
        assert updated["config"]["max_bytes"] == max_bytes

    async def call(self, *arguments, timeout=30):
        """Call `mq9 cluster`; its exit code and its document."""
        return await call_cluster(self.url, *arguments, timeout=timeout)

    async def status(self):
        """What each gateway says of itself."""
        _, document = await self.call("status")
        return document["gateways"]

    async def has_whole_log(self):
        """Whether each server has all of it, as far as it knows; the leader notices late."""
        return all([await server.is_healthy() for server in self.servers.servers])

    async def leader(self):
        """The number of the server that leads the log."""
        asker = await nats.connect(self.servers.urls)
        leaders = []

        async def is_told():
            # One that was cut off, or failed, may answer too, and knows none.
            with suppress(nats.errors.Error):
                info = await asker.jetstream(timeout=1).stream_info("MQ9")
                leaders.append(info.cluster.leader)
            return leaders and leaders[-1]

        try:
            await until(is_told)
        finally:
            await asker.close()
        return int(leaders[-1].removeprefix("n"))


class Members(Cluster):
    """Gateways in this process.

    Args:
        directory: Where they may write.
        stack: Ends them.
        size: How many servers there are.
    """

    def __init__(self, directory, stack, size=1):
        super().__init__(directory, stack, NatsCluster(directory / "nats", size))
        self._stacks = {}

    def file(self, name):
        """The file of a gateway's copy of the state."""
        return self.directory / f"{name}.db"

    async def start(self, name, *, url=None, gateway=(), **options):
        """Start one, with the file that it had before, if it had one.

        Args:
            name: Of the file.
            url: Of the servers; that of all others by default.
            gateway: What the gateway is started with.
            options: What it joins with.
        """
        own = self._stacks[name] = await self.stack.enter_async_context(AsyncExitStack())
        if gateway and gateway[0] is not None:
            options["has_callers"] = gateway[0].has_callers
        joining = joined(url or self.url, self.file(name), SystemClock(), **options)
        member = await own.enter_async_context(joining)
        await member.gateway.start(*gateway)
        return member

    async def stop(self, name):
        """Stop one."""
        await self._stacks[name].aclose()


class Programs(Cluster):
    """Gateways that are programs.

    Args:
        directory: Where they may write.
        stack: Ends them.
        servers: The NATS servers, which are not running yet.

    Attributes:
        gateways: Those that were started.
    """

    def __init__(self, directory, stack, servers):
        super().__init__(directory, stack, servers)
        self.gateways = []

    async def gateway(self, *options, **how):
        """Start one, which serves when this returns.

        Args:
            options: Of the command.
            how: Further arguments of `Serving`.
        """
        directory = self.directory / f"gateway{len(self.gateways)}"
        directory.mkdir()
        file = directory / "mail.db"
        gateway = Serving(directory, "--cluster", self.url, "--data", str(file), *options, **how)
        await self.stack.enter_async_context(gateway)
        self.gateways.append(gateway)
        return gateway

    async def serves(self, *gateways):
        """Whether they are in the queue group; none is asked for all."""
        _, document = await self.call("status")
        found = document.get("gateways", [])  # none where the log does not answer yet
        serving = {one["name"] for one in found if one["serving"]}
        return serving >= {gateway.name for gateway in gateways or self.gateways}
