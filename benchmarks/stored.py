"""Large files: made once, by a broker in this process, and kept for later runs."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

from benchmarks import load
from benchmarks.case import Setting
from mq9 import Mq9Client
from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.engine.commands import Limits
from mq9.transport.direct import DirectTransport

INBOX, GROUP = "inbox", "g"
SKILLS = [f"skill{number}" for number in range(100)]
_AT_ONCE = 256  # as many as a commit takes
_FETCHED = 1_000  # as many as a FETCH gives
_LIMITS = Limits(
    max_messages=10_000_000,
    max_bytes=100_000_000_000,
    max_mailboxes=1_000_000,
    max_agents=1_000_000,
)


async def backlog(setting: Setting, messages: int) -> Path:
    """Return a copy of a file with a mailbox of so many messages, nine tenths of them acked."""

    async def fill(client: Mq9Client) -> None:
        await client.mailbox_create(name=INBOX)
        await load.repeat(lambda: client.send(INBOX, load.BODY), messages, _AT_ONCE)
        await take(client, acked(messages))

    return await _copy(setting, f"backlog-{messages}", fill)


async def mailboxes(setting: Setting, count: int) -> Path:
    """Return a copy of a file with so many mailboxes, each with a message."""

    async def fill(client: Mq9Client) -> None:
        numbers = iter(range(count))

        async def make() -> None:
            name = mailbox(next(numbers))
            await client.mailbox_create(name=name)
            await client.send(name, load.BODY)

        await load.repeat(make, count, _AT_ONCE)

    return await _copy(setting, f"mailboxes-{count}", fill)


async def agents(setting: Setting, count: int) -> Path:
    """Return a copy of a file with so many registered agents."""

    async def fill(client: Mq9Client) -> None:
        numbers = iter(range(count))
        await load.repeat(lambda: client.agent_register(agent(next(numbers))), count, _AT_ONCE)

    return await _copy(setting, f"agents-{count}", fill)


def agent(number: int) -> dict[str, str]:
    """Return the registration of one of many agents, each with three of a hundred skills."""
    skills = (number, number * 3, number * 7)
    return {
        "name": f"agent {number}",
        "payload": " ".join(SKILLS[one % len(SKILLS)] for one in skills),
    }


def acked(messages: int) -> int:
    """Return how many messages of a backlog its group has acked."""
    return messages * 9 // 10


def mailbox(number: int) -> str:
    """Return the address of one of many mailboxes."""
    return f"box.{number}"


async def take(client: Mq9Client, count: int) -> None:
    """Fetch and ack so many messages for the group."""
    while count:
        wanted = min(count, _FETCHED)
        fetched = await client.fetch(INBOX, group_name=GROUP, num_msgs=wanted, max_wait_ms=0)
        await client.ack(INBOX, GROUP, fetched[-1].msg_id)
        count -= len(fetched)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Mq9Client]:
    """Open a file in this process, with limits that no case reaches."""
    broker = EmbeddedBroker.on_file(path, SystemClock(), limits=_LIMITS)
    transport = DirectTransport(broker, BrokerSession("benchmarks"), broker.close)
    async with Mq9Client(transport=transport) as client:
        yield client


async def _copy(setting: Setting, name: str, fill: Callable[[Mq9Client], Awaitable[None]]) -> Path:
    """Return a copy of a file that is kept, for a case to change; fill it where there is none."""
    directory = setting.directory(name)
    kept = setting.files / f"{name}-{await _format(directory)}.db"
    if not kept.exists():
        made = directory / "made.db"
        async with opened(made) as client:
            await fill(client)
        made.replace(kept)
    copy = directory / "mail.db"
    shutil.copyfile(kept, copy)
    return copy


async def _format(directory: Path) -> str:
    """Return what changes whenever files are laid out in another way."""
    empty = directory / "empty.db"
    async with opened(empty):
        pass
    with closing(sqlite3.connect(empty)) as database:
        schema = database.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        schema += database.execute("PRAGMA user_version").fetchall()
    return hashlib.sha256(repr(schema).encode()).hexdigest()[:12]
