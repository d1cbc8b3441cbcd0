"""A large file that begins a cluster, and comes out of it again."""

import asyncio
import itertools
import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from mq9 import Mq9Client
from mq9.engine.state import digest
from mq9.models import Priority

pytestmark = pytest.mark.soak

BOXES = [f"box.{number}" for number in range(5)]
PRIORITIES = list(Priority)
AT_ONCE = 256


def send_options(number):
    """What the message of a number is sent with, beside its payload."""
    options = {"priority": PRIORITIES[number % len(PRIORITIES)]}
    if number % 10 == 0:
        options["ttl"] = 7_200
    if number % 11 == 0:
        options["delay"] = 3_600
    if number % 13 == 0:
        options |= {"tags": ["some", f"t{number % 7}"], "headers": {"Trace": f"é{number}"}}
    if number % 101 == 0:
        options["key"] = f"key {number % 303}"
    if number % 17 == 0:
        options |= {"id": f"id {number}", "reply_to": BOXES[0], "correlation_id": f"c{number}"}
    return options


async def fill(file, count):
    """Make a file with so many messages, and with all else that a mailbox may have."""
    generator = random.Random(1)
    bodies = [generator.randbytes(generator.choice([0, 20, 200, 2_000])) for _ in range(count)]
    bodies[count // 2] = generator.randbytes(1 << 20)
    async with Mq9Client(f"sqlite:///{file}") as client:
        for box in BOXES:
            await client.mailbox_create(name=box, ttl=86_400 if box == BOXES[1] else 0)
        for number in range(10 + count // 1_000):
            await client.agent_register(
                {"name": f"agent {number}", "payload": f"translates number{number}"}, ttl=86_400
            )
        numbers = iter(range(count))

        async def send_some():
            for number in numbers:
                box = BOXES[number % len(BOXES)]
                await client.send(box, bodies[number], **send_options(number))

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(send_some())
        for box, place in itertools.product(BOXES, range(3)):
            name, options = f"g{place}", {"consumer": f"c{place}", "lease_ms": 3_600_000}
            for _ in range(3):
                fetched = await client.fetch(
                    box,
                    group_name=name,
                    num_msgs=min(1_000, count // 50),
                    max_bytes=64 << 20,
                    **options,
                )
                handled = fetched[: len(fetched) * (place + 1) // 3]
                await client.ack(box, name, handled[-1].msg_id, consumer=f"c{place}")
            await client.nack(
                box, name, fetched[-1].msg_id, delay_ms=3_600_000, consumer=f"c{place}"
            )


def digest_at(file, applied, copy):
    """Digest the state of a file as it would be if it had come from a log up to a record."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("UPDATE state SET applied=?", (applied,))
        return digest(target)


def fields_of(message):
    return (
        *(message.msg_id, message.payload, message.priority, message.key, message.tags),
        *(message.headers, message.create_time, message.reply_to, message.correlation_id),
    )


async def seen_by(client):
    """What a client is shown of everything that is there; a new group is given it."""
    seen = []
    for box in BOXES:
        seen += [await client.mailbox_status(box, group_name=f"g{place}") for place in range(3)]
        while fetched := await client.fetch(
            box, group_name="all", num_msgs=1_000, max_wait_ms=0, lease_ms=3_600_000, consumer="c"
        ):
            seen += map(fields_of, fetched)
            await client.ack(box, "all", fetched[-1].msg_id, consumer="c")
    pages = itertools.count(1)
    while found := await client.agent_discover(limit=100, page=next(pages)):
        seen += found
    return seen


@pytest.mark.programs
async def test_a_large_file_goes_into_a_cluster_and_comes_out_as_it_was(members, tmp_path, scale):
    count = 1_000 * scale**2
    before, after, alone = (tmp_path / f"{name}.db" for name in ("before", "after", "alone"))
    await fill(before, count)

    assert (await members.call("import", before))[0] == 0
    for name in ("one", "two"):
        await members.start(name)
    code, verified = await members.call("verify", timeout=60)
    assert (code, verified["equal"], len(verified["gateways"])) == (0, True, 2)
    assert (await members.call("export", after))[0] == 0

    with closing(sqlite3.connect(after)) as database:
        [(applied, messages)] = database.execute(
            "SELECT applied, (SELECT count(*) FROM messages) + (SELECT count(*) FROM delayed)"
            " FROM state"
        )
    assert messages > count * 0.9  # all but those that one of the same key replaced
    expected = digest_at(before, applied, tmp_path / "copy.db")
    told = {one["digest"] for one in verified["gateways"]}
    with closing(sqlite3.connect(after)) as database:
        assert {digest(database)} == told == {expected}

    shutil.copyfile(before, alone)
    async with Mq9Client(f"sqlite:///{alone}") as client:
        expected = await seen_by(client)
    async with Mq9Client(f"sqlite:///{after}") as client:
        assert await seen_by(client) == expected
    assert await seen_by(await members.client()) == expected
