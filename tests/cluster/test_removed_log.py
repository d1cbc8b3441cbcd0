"""A log that was removed, purged or replaced: nothing is lost without an error."""

import asyncio

import pytest
from nats.js import api
from waiting import until

from mq9 import Mq9Client
from mq9.clock import SystemClock
from mq9.cluster.backend import REPLACED
from mq9.cluster.jetstream import JetStreamLog
from mq9.errors import InvalidRequest, Mq9Error, Unreachable

from .clusters import is_due
from .traffic import everything

pytestmark = pytest.mark.programs


async def remove(members, *streams):
    jetstream = (await members.asker()).jetstream()
    for stream in streams:
        await jetstream.delete_stream(stream)


@pytest.mark.parametrize("removed", [("MQ9",), ("MQ9", "KV_MQ9_LOG")])
async def test_nobody_creates_an_empty_log_where_there_was_one(members, removed):
    await members.start("one")
    await members.inbox()
    await members.stop("one")
    await remove(members, *removed)

    with pytest.raises(
        InvalidRequest, match="the log of this cluster, the stream MQ9, was removed: "
    ) as refused:
        await members.start("one")
    assert "one.db is a copy of it" in str(refused.value)
    if removed == ("MQ9",):
        with pytest.raises(InvalidRequest, match="the bucket MQ9_LOG has its identity"):
            await members.start("two")


async def test_snapshots_tell_of_a_log_too(members):
    await members.start("one")
    await members.inbox()
    assert (await members.call("snapshot"))[0] == 0
    await members.stop("one")
    await remove(members, "MQ9", "KV_MQ9_LOG")

    with pytest.raises(InvalidRequest, match="was removed: there are snapshots of it"):
        await members.start("two")


async def replaced(members, member):
    """Wait until a gateway has noticed, and see that it answers nothing any more."""
    await until(lambda: member.backend.failure is not None)
    assert str(member.backend.failure) == REPLACED
    await until(member.gateway.is_over.is_set)
    assert not member.gateway.is_serving


async def test_a_gateway_whose_log_was_replaced_stops_and_appends_nothing_to_the_other(members):
    one = await members.start("one")
    client = await members.inbox()
    await client.send("inbox", "before")
    jetstream = (await members.asker()).jetstream()
    await jetstream.delete_stream("MQ9")
    async with Mq9Client(members.url, request_timeout=1.0, reconnect_attempts=1) as hurried:
        sending = asyncio.create_task(hurried.send("inbox", "meanwhile"))
        await JetStreamLog(await members.asker(), SystemClock()).create(1, "another")
        with pytest.raises(Mq9Error):
            await sending

    await replaced(members, one)
    assert (await jetstream.stream_info("MQ9")).state.messages == 0
    with pytest.raises(InvalidRequest, match="is not the log of this cluster: that was removed"):
        await members.start("two")


async def test_a_log_of_an_older_release_is_told_from_another_by_its_time(members):
    jetstream = (await members.asker()).jetstream()

    async def create():
        await jetstream.add_stream(
            name="MQ9",
            subjects=["MQ9.append"],
            discard=api.DiscardPolicy.NEW,
            allow_direct=True,
            duplicate_window=120.0,
            deny_delete=True,
        )

    await create()
    one = await members.start("one")
    client = await members.inbox()
    await client.send("inbox", "x")
    assert (await members.call("verify"))[1]["equal"]
    await jetstream.delete_stream("MQ9")
    await create()

    await replaced(members, one)
    with pytest.raises(InvalidRequest, match="is not the log of this cluster"):
        await members.start("two")


async def test_a_snapshot_begins_a_new_log_with_the_mail(members, tmp_path):
    await members.start("one")
    client = await members.inbox()
    await client.send("inbox", "kept")
    assert (await members.call("snapshot"))[0] == 0
    code, refused = await members.call("reset", "--yes")
    assert (code, refused["error"]) == (2, "reset: 1 gateways are running; stop them first")
    await members.stop("one")
    await remove(members, "MQ9")
    after = tmp_path / "after.db"

    assert (await members.call("export", after))[0] == 0
    code, refused = await members.call("import", after)
    assert (code, "mq9 cluster reset" in refused["error"]) == (2, True)
    code, refused = await members.call("reset")
    assert (code, "Confirm with --yes" in refused["error"]) == (2, True)
    assert await members.call("reset", "--yes") == (0, {"reset": True})
    assert (await members.call("import", after))[0] == 0
    for name in ("one", "two"):
        await members.start(name)
    assert [one.text for one in await everything(client, "g")] == ["kept"]
    code, verified = await members.call("verify")
    assert (code, verified["equal"], len(verified["gateways"])) == (0, True, 2)


async def test_a_purge_is_noticed_and_the_next_snapshot_mends_it(members, caplog):
    one = await members.start("one")
    client = await members.inbox()
    await client.send("inbox", "kept")
    await (await members.asker()).jetstream().purge_stream("MQ9")

    with pytest.raises(Unreachable, match="it was purged"):
        await members.start("two")
    assert await is_due(one)
    assert "the log was purged up to" in caplog.text
    await one.take_snapshot()
    assert not await is_due(one)
    await members.start("two")
    await members.stop("one")
    assert [one.text for one in await everything(client, "g")] == ["kept"]
