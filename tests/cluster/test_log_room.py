"""A log that runs full: new mail is refused first, and nothing is ever half done."""

from contextlib import AsyncExitStack

import pytest
from nats_server import NatsServer
from waiting import until

from mq9.engine.commands import Call, Undo
from mq9.errors import LimitReached
from mq9.server.limits import SnapshotLimits

from .clusters import Cluster, Members

pytestmark = pytest.mark.programs

MB = 1_000_000
BODY = bytes(100_000)
SERVER = """
jetstream {{ store_dir: "{store}", max_file_store: {servers} }}
accounts {{
  MAIL {{ jetstream: {{ max_file: {account} }}, users: [ {{ user: mail, password: mail }} ] }}
  SYS {{ users: [ {{ user: system, password: system }} ] }}
}}
system_account: SYS
no_auth_user: mail
"""


class OneServer(Members):
    """Gateways on a server that may store so much."""

    def __init__(self, directory, stack, account="1GB", servers="1GB"):
        config = SERVER.format(store=directory / "store", account=account, servers=servers)
        Cluster.__init__(self, directory, stack, NatsServer(directory / "nats", config=config))
        self._stacks = {}

    @property
    def url(self):
        return self.servers.url

    async def asker(self):
        self.servers.urls = [self.servers.url]
        return await super().asker()


async def send_until_refused(client, most=1_000):
    sent = []
    for _ in range(most):
        try:
            sent.append(await client.send("inbox", BODY))
        except LimitReached as error:
            return sent, str(error)
    raise AssertionError("nothing is refused")


async def free(client, sent):
    """Make the requests that free something, and those that only read."""
    fetched = await client.fetch("inbox", group_name="g", num_msgs=2, max_wait_ms=0)
    await client.ack("inbox", "g", fetched[0].msg_id)
    await client.nack("inbox", "g", fetched[1].msg_id)
    await client.delete("inbox", sent[-1])
    status = await client.mailbox_status("inbox", group_name="g")
    assert (status.stored, status.group.acked) == (len(sent) - 1, 1)


async def test_new_mail_is_refused_before_the_stream_is_full(members):
    one, two = await members.start("one"), await members.start("two")
    client = await members.inbox()
    await members.limit_log(6 * MB)
    for gateway in (one, two):
        await until(lambda gateway=gateway: gateway.backend.room.log.max_bytes == 6 * MB)

    sent, refusal = await send_until_refused(client)

    assert 25 <= len(sent) <= 35  # the other half is kept: a record may have 8 MB here
    assert "bytes of 6000000 are used (max_bytes of the stream MQ9)" in refusal
    assert "mq9 cluster snapshot" in refusal
    assert "nats stream edit MQ9 --max-bytes" in refusal
    with pytest.raises(LimitReached, match="the log of the cluster is nearly full"):
        await client.mailbox_create(name="another")
    await client.mailbox_create(name="inbox", renew=True)
    await free(client, sent)
    assert (await members.call("verify"))[1]["equal"]

    await one.trim(SnapshotLimits())  # it stores a snapshot, as new mail is refused
    assert (await one.backend.log.last()).first == 1
    await one.trim(SnapshotLimits())  # nothing has changed since
    assert (await one.backend.log.last()).records < 5
    for gateway in (one, two):
        await until(lambda gateway=gateway: not gateway.backend.room.is_short)
    assert await client.send("inbox", BODY) == len(sent)
    assert await client.mailbox_create(name="another") == "another"


@pytest.mark.parametrize("size", [1, 3])
async def test_what_the_stream_has_no_room_for_is_refused_for_certain(tmp_path, size):
    """Whichever request it is; it was not carried out, and is once there is room."""
    async with AsyncExitStack() as stack:
        members = Members(tmp_path, stack, size)
        one = await members.start("one")
        client = await members.inbox()
        await client.send("inbox", "first")
        [message] = await client.fetch("inbox", group_name="g", max_wait_ms=0)
        used = (await one.backend.log.last()).bytes
        await members.limit_log(used + 10)

        with pytest.raises(
            LimitReached, match="JetStream answers `maximum bytes exceeded`"
        ) as refused:
            await client.ack("inbox", "g", message.msg_id)
        assert "nats stream edit MQ9 --max-bytes" in str(refused.value)
        with pytest.raises(LimitReached):
            await client.send("inbox", "second")
        status = await client.mailbox_status("inbox", group_name="g")
        assert (status.stored, status.group.acked) == (1, 0)

        await members.limit_log(100 * MB)
        await until(lambda: not one.backend.room.is_short)
        assert await client.send("inbox", "second") == 1
        assert await client.ack("inbox", "g", message.msg_id) == [message.msg_id]
        status = await client.mailbox_status("inbox", group_name="g")
        assert (status.stored, status.group.acked) == (2, 1)


async def test_a_lease_that_reached_nobody_is_undone_once_there_is_room(members):
    one = await members.start("one")
    client = await members.inbox()
    await client.send("inbox", "first")
    fetched = await client.fetch("inbox", group_name="g", consumer="a", max_wait_ms=0)
    await members.limit_log((await one.backend.log.last()).bytes + 10)
    one.broker.undo_soon(Call(Undo(batch=fetched.batch), "inbox"), "x")
    await until(lambda: one.backend.room.is_short)  # JetStream has refused it
    await members.limit_log(100 * MB)

    async def is_given_to_another():
        return await client.fetch("inbox", group_name="g", consumer="b", max_wait_ms=0)

    await until(is_given_to_another)


@pytest.mark.parametrize(
    ("account", "servers", "limit"),
    [
        ("8MB", "1GB", "the storage of the JetStream account"),
        ("-1", "3MB", "the storage of the NATS servers"),
    ],
)
async def test_the_limits_of_an_account_and_of_a_server_are_named(
    tmp_path, account, servers, limit
):
    async with AsyncExitStack() as stack:
        members = OneServer(tmp_path, stack, account, servers)
        one = await members.start("one")
        client = await members.inbox()
        await until(lambda: one.backend.room.log)
        if servers == "1GB":
            await until(lambda: one.backend.room._account)  # noqa: SLF001  # looked at every 2 s

        sent, refusal = await send_until_refused(client)

        assert limit in refusal
        assert (await client.mailbox_status("inbox")).stored == len(sent)
        if servers == "1GB":
            await free(client, sent)
            await one.trim(SnapshotLimits())
            assert one.snapshots.newest.sequence == one.backend.changed
