"""How long a SEND may take while the server has other things to do."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from nats.aio.client import Client as NatsClient

from benchmarks import disturbance, load, raw, stored
from benchmarks.case import Case, Comparison, Contestants, Setting, at_most
from benchmarks.servers import mq9_server, nats_client

_MESSAGES, _AGENTS = 100_000, 1_000
_SAMPLED_S = 4.0
_EXPIRY_S = 4.0  # at any scale, since times to live are whole seconds
_QUIET = "quiet"
# Processes that compute and use nothing of mq9, by name: what the kernel's scheduler costs.
_BUSY = {"one busy process": 1, "two busy processes": 2}
_COMPUTE = """
import time
until = time.monotonic() + 60
while time.monotonic() < until:
    pass
"""
_MEDIAN, _P99 = "median of a SEND", "p99 of a SEND"


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    messages, agents = setting.size(_MESSAGES, 200), setting.size(_AGENTS, 50)
    sizes = {
        disturbance.checkpoints: 0,
        disturbance.expiry: messages,
        disturbance.discovery: agents,
        disturbance.reader: messages,
    }
    data = await stored.backlog(setting, messages)
    server = await stack.enter_async_context(mq9_server(setting, data=data))
    client = await stack.enter_async_context(nats_client(server.url))
    await raw.ask(client, "MAILBOX.CREATE", {"name": "sampled"})

    async def quiet():
        return await _sample(client, _seconds(setting))

    def contestant(name, size):
        seconds = _EXPIRY_S if name == disturbance.expiry.__name__ else _seconds(setting)

        async def measure():
            async with _disturbed(server.url, name, size):
                return await _sample(client, seconds)

        return measure

    def beside_busy(count):
        async def measure():
            async with _computing(count):
                return await _sample(client, _seconds(setting))

        return measure

    return {
        _QUIET: quiet,
        **{name: beside_busy(count) for name, count in _BUSY.items()},
        **{one.__name__: contestant(one.__name__, size) for one, size in sizes.items()},
    }


def _seconds(setting: Setting) -> float:
    return max(_SAMPLED_S * min(setting.scale, 1), 0.2)


async def _sample(client: NatsClient, seconds: float) -> dict[str, float]:
    """Send one message after another for so long."""
    until = time.perf_counter() + seconds
    taken = []
    while time.perf_counter() < until:
        taken += await load.milliseconds(lambda: raw.send(client, "sampled"), 10)
    return {_MEDIAN: load.percentile(taken, 50), _P99: load.percentile(taken, 99)}


@asynccontextmanager
async def _disturbed(url: str, name: str, size: int) -> AsyncIterator[None]:
    """Let a process disturb the server while inside.

    Raises:
        RuntimeError: It has ended before that, or in the meantime.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.disturbance", url, name, str(size)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    try:
        if await process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{name} has not begun")
        yield
        if process.returncode is not None:
            raise RuntimeError(f"{name} has ended")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def _computing(count: int) -> AsyncIterator[None]:
    """Let processes compute while inside."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", _COMPUTE)
            stack.push_async_callback(process.wait)
            stack.callback(process.kill)
        yield


CASE = Case(
    "tail",
    f"SENDs one after another while another process writes 100 kB messages, {_MESSAGES} messages "
    f"expire, another process looks for {_AGENTS} agents, 16 times at once, or reads a mailbox of "
    f"{_MESSAGES} messages; also while one or two processes compute that use nothing of mq9",
    {_MEDIAN: "ms", _P99: "ms"},
    [
        *(Comparison(_P99, name, _QUIET, beside_measure=_MEDIAN) for name in (_QUIET, *_BUSY)),
        *(
            Comparison(_P99, name, _QUIET, at_most(5), beside_measure=_MEDIAN)
            for name in disturbance.DISTURBANCES
        ),
    ],
    _open,
)
