"""Gateways in this process, on a NATS server with JetStream."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from nats_server import NatsCluster
from typer.testing import CliRunner

from mq9 import Mq9Client
from mq9.cli.app import app
from mq9.clock import SystemClock
from mq9.cluster.member import joined


class Members:
    """Gateways of one cluster, in this process.

    Args:
        directory: Where they may write.
        stack: Ends them.
    """

    def __init__(self, directory, stack):
        self._directory = directory
        self._stack = stack
        self._stacks = {}
        self.servers = stack.enter_context(NatsCluster(directory / "nats", 1))
        [self.url] = self.servers.urls

    def file(self, name):
        """The file of a gateway's copy of the state."""
        return self._directory / f"{name}.db"

    async def start(self, name, *, reserved=None, **options):
        """Start one, with the file that it had before, if it had one."""
        own = self._stacks[name] = await self._stack.enter_async_context(AsyncExitStack())
        joining = joined(self.url, self.file(name), SystemClock(), **options)
        member = await own.enter_async_context(joining)
        await member.gateway.start(reserved)
        return member

    async def stop(self, name):
        """Stop one."""
        await self._stacks[name].aclose()

    async def client(self, **options):
        return await self._stack.enter_async_context(Mq9Client(self.url, **options))

    async def call(self, *arguments):
        """Call `mq9 cluster`; its exit code and its document."""
        done = await asyncio.to_thread(
            CliRunner().invoke, app, ["--url", self.url, "--json", "cluster", *map(str, arguments)]
        )
        return done.exit_code, json.loads(done.stdout)


@pytest.fixture
async def members(tmp_path):
    async with AsyncExitStack() as stack:
        yield Members(tmp_path, stack)


@pytest.fixture
async def inbox(members):
    """A client of two gateways, with a mailbox."""
    await members.start("one")
    await members.start("two")
    client = await members.client()
    await client.mailbox_create(name="inbox")
    return client
