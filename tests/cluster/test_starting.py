"""Starts and ends of gateways while their NATS servers are missing, or too old."""

import asyncio
import json
import os
import re
import signal
from contextlib import AsyncExitStack

import pytest
from nats_server import NatsCluster, NatsServer
from serving import Serving
from waiting import until

from mq9 import Mq9Client
from mq9.cli.serve import running
from mq9.cluster.connection import connect
from mq9.errors import InvalidRequest
from mq9.server.settings import ServerSettings

from .clusters import Programs

pytestmark = pytest.mark.programs


async def test_a_gateway_waits_for_a_majority_and_serves_then(tmp_path):
    async with AsyncExitStack() as stack:
        cluster = Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", 3))
        one, *others = cluster.servers.servers
        for server in others:
            server.kill()
        options = ("--cluster", one.url, "--data", str(tmp_path / "mail.db"))
        waiting = Serving(tmp_path, *options)
        starting = asyncio.create_task(asyncio.to_thread(waiting.start))
        stack.callback(waiting.__exit__)
        await until(lambda: waiting.log.exists() and "waits for a" in waiting.told, seconds=60)
        assert not starting.done()
        for server in others:
            server.start()
        await starting
        client = await cluster.client()
        await client.mailbox_create(name="inbox")


async def test_a_gateway_that_waits_ends_at_a_signal(tmp_path):
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(NatsCluster(tmp_path / "nats", 3))
        one, *others = servers.servers
        for server in others:
            server.kill()
        gateway = Serving(tmp_path, "--cluster", one.url, "--data", str(tmp_path / "mail.db"))

        async def start():
            with pytest.raises(AssertionError):  # it says nowhere that it listens
                await asyncio.to_thread(gateway.start)

        starting = asyncio.create_task(start())
        stack.callback(gateway.__exit__)
        await until(lambda: gateway.log.exists() and "waits for a" in gateway.told, seconds=60)
        gateway.stop()
        await starting
        assert await gateway.ended() == 0


async def test_the_time_to_drain_is_for_what_waits_for_the_log_too(tmp_path):
    with NatsServer(tmp_path / "nats", "--jetstream", f"--store_dir={tmp_path}/store") as server:
        settings = ServerSettings(
            cluster=server.url, data=tmp_path / "mail.db", port=0, admin=False
        )
        async with running(settings) as serving:
            url = serving.server.url
            async with Mq9Client(url, request_timeout=60, reconnect_attempts=1) as client:
                await client.mailbox_create(name="inbox")
                os.kill(server.pid, signal.SIGSTOP)
                sending = asyncio.create_task(client.send("inbox", "x"))
                await until(lambda: serving.member.backend._appended)  # noqa: SLF001
                await serving.drain(0.1)
                assert serving.member.backend.closing_ms == 0
                sending.cancel()
            os.kill(server.pid, signal.SIGCONT)


async def test_a_server_that_is_too_old_is_refused_by_name():
    async def serve(reader, writer):
        info = {"server_id": "x", "version": "2.10.29", "max_payload": 1_048_576, "proto": 1}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as older:
        url = f"nats://127.0.0.1:{older.sockets[0].getsockname()[1]}"
        said = f"cluster: the NATS server at {url} has version 2.10.29, and gateways need 2.11"
        with pytest.raises(InvalidRequest, match=re.escape(said)):
            await connect(url, "gateway", "_INBOX.MQ9.gateway")
