"""The digest that an import prints is that of the file before, and of all gateways after."""

import sqlite3
from contextlib import AsyncExitStack, closing

import pytest
from nats_server import NatsServer
from serving import Serving

from mq9 import Mq9Client
from mq9.cluster.member import largest_payload
from mq9.cluster.records import first_index
from mq9.engine.state import digest

from .clusters import Programs

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


class OneServer(NatsServer):
    """A server that takes messages of at most 1 MiB, the default of NATS."""

    @property
    def urls(self):
        return [self.url]


async def make(directory, file):
    """Make a file by `mq9 serve` with its defaults."""
    async with Serving(directory, "--data", str(file)) as alone:
        async with Mq9Client(alone.url) as client:
            await client.mailbox_create(name="inbox", ttl=3_600)
            for number in range(20):
                await client.send("inbox", str(number), priority="urgent")
            [first, *_] = await client.fetch("inbox", group_name="g", num_msgs=5)
            await client.ack("inbox", "g", first.msg_id)
        alone.stop()
        assert await alone.ended() == 0


def digest_before(file):
    """Digest a file as the first record of a log, with the limit that this NATS server asks for."""
    with closing(sqlite3.connect(file)) as connection:
        limit = largest_payload(1024 * 1024)
        values = [first_index(1), limit]
        connection.execute("UPDATE state SET applied=?, max_payload=?", values)  # not committed
        return digest(connection)


async def test_programs_with_their_defaults_report_the_digest_of_the_import(tmp_path):
    file = tmp_path / "mail.db"
    await make(tmp_path, file)
    before = digest_before(file)
    async with AsyncExitStack() as stack:
        server = OneServer(tmp_path / "nats", "--jetstream", f"--store_dir={tmp_path}/store")
        cluster = Programs(tmp_path, stack, server)
        code, imported = await cluster.call("import", file)
        assert (code, imported["digest"]) == (0, before)
        for _ in range(2):
            await cluster.gateway()
        code, verified = await cluster.call("verify")
        assert code == 0
        assert [one["digest"] for one in verified["gateways"]] == [before] * 2
