"""A file in this process, beside a Redis that is imitated in this process and keeps no file."""

from __future__ import annotations

from contextlib import AsyncExitStack

from benchmarks import load, stored
from benchmarks.case import Case, Comparison, Contestants, NotInstalled, Setting, at_least

_SENDS = 2_000
_SEQUENTIAL, _TOGETHER = "sequential", "64 in flight"
_FILE, _FAKEREDIS = "sqlite:///", "fakeredis, memory only"


async def _fakeredis(stack: AsyncExitStack) -> load.Call | NotInstalled:
    try:
        from fakeredis import FakeAsyncRedis  # noqa: PLC0415  # it may be missing
    except ImportError:
        return NotInstalled("fakeredis")
    client = await stack.enter_async_context(FakeAsyncRedis())
    return lambda: client.xadd("inbox", {"body": load.BODY})


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    path = setting.directory("file") / "mail.db"
    client = await stack.enter_async_context(stored.opened(path))
    await client.mailbox_create(name="inbox")
    fakeredis = await _fakeredis(stack)
    count = setting.size(_SENDS, load.AT_ONCE)

    def contestant(call):
        async def measure():
            return {
                _SEQUENTIAL: await load.rate(call, count),
                _TOGETHER: await load.rate(call, count, load.AT_ONCE),
            }

        return measure

    return {
        _FILE: contestant(lambda: client.send("inbox", load.BODY)),
        _FAKEREDIS: fakeredis if isinstance(fakeredis, NotInstalled) else contestant(fakeredis),
    }


CASE = Case(
    "file",
    f"send to a file in this process, {_SENDS} each, beside XADD to fakeredis, which keeps "
    "everything in memory",
    {_SEQUENTIAL: "sends/s", _TOGETHER: "sends/s"},
    [
        Comparison(_SEQUENTIAL, _FILE, _FAKEREDIS, at_least(0.9)),
        Comparison(_TOGETHER, _FILE, _FAKEREDIS, at_least(3)),
    ],
    _open,
)
