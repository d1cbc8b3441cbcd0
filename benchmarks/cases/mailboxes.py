"""What many mailboxes cost that nobody uses."""

from __future__ import annotations

import itertools
import random
import re
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks import load, raw, stored
from benchmarks.case import By, Case, Comparison, Contestants, Setting, at_most
from benchmarks.servers import mq9_server, nats_client

_MANY, _FEW = 100_000, 100
_CALLS = 300
_SEND, _FETCH, _MEMORY = "SEND", "FETCH of 1", "memory of an idle mailbox"
_LARGE, _SMALL = "100 000 mailboxes", "100 mailboxes"


async def _open(setting: Setting, stack: AsyncExitStack) -> Contestants:
    many, calls = setting.size(_MANY, 2 * _FEW), setting.size(_CALLS, 10)
    processes = {}

    async def contestant(mailboxes: int):
        data = await stored.mailboxes(setting, mailboxes)
        server = await stack.enter_async_context(mq9_server(setting, data=data))
        client = await stack.enter_async_context(nats_client(server.url))
        # Whatever the server keeps of a mailbox that was used, it has of each from here on.
        numbers = iter(range(mailboxes))
        await load.repeat(
            lambda: raw.send(client, stored.mailbox(next(numbers))), mailboxes, load.AT_ONCE
        )
        processes[mailboxes] = server.pid
        chosen = random.Random(1)  # noqa: S311  # no secret
        groups = (f"g.{number}" for number in itertools.count())

        async def measure():
            addresses = [stored.mailbox(chosen.randrange(mailboxes)) for _ in range(calls)]
            sending, fetching, group = iter(addresses), iter(addresses), next(groups)
            figures = {
                _SEND: await load.median_ms(lambda: raw.send(client, next(sending)), calls),
                _FETCH: await load.median_ms(
                    lambda: raw.fetch(client, next(fetching), group, 1), calls
                ),
            }
            if mailboxes == many and (more := _memory(processes[many])) is not None:
                more -= _memory(processes[_FEW])
                figures[_MEMORY] = more / (many - _FEW)
            return figures

        return measure

    # The small one first, since the large one's memory is compared with it.
    small = await contestant(_FEW)
    return {_LARGE: await contestant(many), _SMALL: small}


def _memory(pid: int) -> int | None:
    """Return the bytes of memory that a process has of its own; None where there is no Linux."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    [kilobytes] = re.findall(r"^RssAnon:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    return int(kilobytes) * 1024


CASE = Case(
    "mailboxes",
    f"a server with {_MANY} mailboxes, {_CALLS} of which are used, beside one with {_FEW}",
    {_SEND: "ms", _FETCH: "ms", _MEMORY: "bytes"},
    [
        Comparison(_SEND, _LARGE, _SMALL, at_most(1.3)),
        Comparison(_FETCH, _LARGE, _SMALL, at_most(1.3)),
        Comparison(_MEMORY, _LARGE, goal=at_most(300), by=By.VALUE),
    ],
    _open,
)
