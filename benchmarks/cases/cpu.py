"""The CPU time of a server for a message: its SEND, and its FETCH with the ack."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks import load
from benchmarks.case import By, Case, Comparison, Contestants, NotInstalled, Setting, at_most
from benchmarks.servers import mq9_server
from mq9 import Mq9Client

_SENDS = 4_096
_SERVER = "mq9 serve"
_TOGETHER, _SEQUENTIAL = "64 in flight", "sequential"
_TAKEN = "FETCH of one and ack"


def _cpu_s(pid: int) -> float:
    """Return the seconds of CPU that all threads of a process have used."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    if sys.platform != "linux":
        return {_SERVER: NotInstalled("Linux")}
    server = await stack.enter_async_context(mq9_server(setting))
    client = await stack.enter_async_context(Mq9Client(server.url))
    await client.mailbox_create(name="inbox")

    async def send() -> None:
        await client.send("inbox", load.BODY)

    async def take() -> None:
        [message] = await client.fetch("inbox", group_name="bench", num_msgs=1)
        await client.ack("inbox", "bench", message.msg_id)

    async def used(call: load.Call, count: int, at_once: int) -> float:
        before = _cpu_s(server.pid)
        await load.repeat(call, count, at_once)
        return (_cpu_s(server.pid) - before) * 1e6 / count

    async def measure():
        alone = setting.size(_SENDS // 8)
        return {
            _TOGETHER: await used(send, setting.size(_SENDS, load.AT_ONCE), load.AT_ONCE),
            _SEQUENTIAL: await used(send, alone, 1),
            _TAKEN: await used(take, alone, 1),
        }

    return {_SERVER: measure}


CASE = Case(
    "cpu",
    f"CPU time of the server for a SEND, checkpoints included, {_SENDS} each; for a message that "
    "is fetched and acked alone",
    {_TOGETHER: "µs", _SEQUENTIAL: "µs", _TAKEN: "µs"},
    [
        Comparison(_TOGETHER, _SERVER, goal=at_most(18), by=By.VALUE),
        Comparison(_SEQUENTIAL, _SERVER, by=By.VALUE),
        Comparison(_TAKEN, _SERVER, by=By.VALUE),
    ],
    _open,
)
