"""Gateways that serve one log, and what operators ask of them."""

import asyncio
import sqlite3
from contextlib import closing

import nats
import pytest
from waiting import until

from mq9 import Mq9Client
from mq9.engine.limits import Limits
from mq9.errors import Forbidden, InvalidRequest, PayloadTooLarge, Unreachable
from mq9.protocol.reserved import Reserved

from .traffic import everything


async def texts(client, group):
    """The texts of all that is in the mailbox, acked by a group."""
    return [message.text for message in await everything(client, group)]


async def test_whoever_answers_sees_what_was_answered_before(inbox):
    for number in range(50):
        await inbox.send("inbox", str(number))
        status = await inbox.mailbox_status("inbox")
        assert status.stored == number + 1

    assert await texts(inbox, "g") == [str(number) for number in range(50)]
    assert await texts(inbox, "g") == []


async def test_who_waits_is_woken_whichever_gateway_takes_the_message(inbox, members):
    for number in range(10):  # the two are asked at random
        waiting = asyncio.create_task(
            inbox.fetch("inbox", group_name=f"g{number}", max_wait_ms=30_000, deliver="new")
        )

        async def exists(group=f"g{number}"):
            return (await inbox.mailbox_status("inbox", group_name=group)).group.exists

        await until(exists)
        await inbox.send("inbox", "wake up")
        assert [message.text for message in await waiting] == ["wake up"]


async def test_a_newcomer_begins_with_a_snapshot(inbox, members, caplog):
    caplog.set_level("INFO", "mq9.broker")
    for number in range(20):
        await inbox.send("inbox", str(number))
    for _ in range(2):  # the log is kept behind the second newest
        code, taken = await members.call("snapshot")
        assert code == 0
        assert taken["bytes"] > 0
        await inbox.send("inbox", "later")
    await members.stop("one")
    await members.stop("two")

    await members.start("three")

    assert "begun from a snapshot" in caplog.text
    assert len(await texts(inbox, "g")) == 22


async def test_one_that_is_started_again_goes_on_with_its_file(inbox, members):
    await inbox.send("inbox", "before")
    await members.stop("one")
    await inbox.send("inbox", "meanwhile")
    await members.stop("two")
    await members.start("one")

    assert await texts(inbox, "g") == ["before", "meanwhile"]


async def test_operators_see_all_of_them_and_whether_their_states_are_equal(inbox, members):
    await inbox.send("inbox", "x")

    code, status = await members.call("status")
    assert (code, len(status["gateways"])) == (0, 2)
    assert all(one["serving"] and one["applied"] == status["last"] for one in status["gateways"])
    code, verified = await members.call("verify")
    assert (code, verified["equal"], len(verified["gateways"])) == (0, True, 2)


async def test_verify_tells_when_states_differ(inbox, members):
    await members.stop("two")
    with closing(sqlite3.connect(members.file("two"))) as copy:
        copy.execute("UPDATE state SET max_agents=7")
        copy.commit()
    await members.start("two")

    code, verified = await members.call("verify")

    assert (code, verified["equal"]) == (1, False)


async def test_without_gateways_there_is_nothing_to_see(members):
    assert (await members.call("status"))[0] == 1  # there is no log, either
    await members.start("one")
    await members.stop("one")
    assert await members.call("status") == (4, {"last": 0, "gateways": []})


async def test_a_file_begins_a_cluster_and_comes_out_of_it_again(members, tmp_path):
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    async with Mq9Client(f"sqlite:///{before}") as alone:
        await alone.mailbox_create(name="inbox")
        for number in range(100):
            await alone.send("inbox", str(number))
        await alone.fetch("inbox", group_name="g", num_msgs=40, consumer="c")
        await alone.ack("inbox", "g", 9, consumer="c")

    code, imported = await members.call("import", before)
    assert (code, imported["sequence"]) == (0, 1)
    await members.start("one")
    client = await members.client()
    await client.send("inbox", "100")
    held = await client.fetch("inbox", group_name="g", consumer="c")
    assert [message.text for message in held][:30] == [str(number) for number in range(10, 40)]
    assert (await members.call("snapshot"))[0] == 0
    assert (await members.call("export", after))[0] == 0

    async with Mq9Client(f"sqlite:///{after}") as alone:
        assert await texts(alone, "another") == [str(number) for number in range(101)]


async def test_only_a_cluster_without_a_log_or_gateways_takes_a_file(members, tmp_path):
    file = tmp_path / "before.db"
    async with Mq9Client(f"sqlite:///{file}") as alone:
        await alone.mailbox_create(name="inbox")
    await members.start("one")

    code, refused = await members.call("import", file)
    assert (code, refused["error"]) == (2, "import: 1 gateways are running; stop them first")
    await (await members.client()).mailbox_create(name="inbox")
    await members.stop("one")
    code, refused = await members.call("import", file)
    assert (code, refused["error"]) == (2, "import: this cluster has a log already")


async def test_an_export_overwrites_nothing(members, tmp_path):
    await members.start("one")
    there = tmp_path / "there.db"

    code, refused = await members.call("export", there)
    assert (code, refused["error"]) == (2, "export: there is no snapshot")
    there.write_text("mine")
    code, refused = await members.call("export", there)
    assert (code, refused["error"]) == (2, f"export: {there} exists")


async def test_a_reply_fits_into_a_message_of_the_cluster(inbox):
    body = bytes(range(256)) * 2_000  # half a megabyte, and not text
    for _ in range(30):
        await inbox.send("inbox", body)

    given = 0
    while fetched := await inbox.fetch("inbox", group_name="g", max_bytes=64 << 20):
        given += len(fetched)
        await inbox.ack("inbox", "g", fetched[-1].msg_id)

    assert given == 30


async def test_a_message_that_could_not_be_given_back_is_refused(members):
    await members.start("one", limits=Limits(max_payload=8 << 20))
    client = await members.client()
    await client.mailbox_create(name="inbox")

    with pytest.raises(PayloadTooLarge, match="max_payload"):
        await client.send("inbox", bytes(7 << 20))
    await client.send("inbox", bytes(6_000_000))
    [message] = await client.fetch("inbox", group_name="g")
    assert message.payload == bytes(6_000_000)


async def test_what_belongs_to_configured_agents_is_closed_to_who_comes_by_the_cluster(members):
    await members.start("one", reserved=Reserved(["ada"]))
    client = await members.client()

    with pytest.raises(Forbidden, match="ada"):
        await client.mailbox_create(name="ada")


async def test_there_is_no_cluster_to_join(tmp_path, members):
    members.servers.servers[0].kill()

    with pytest.raises(Unreachable, match=r"cluster: nats://127\.0\.0\.1"):
        await members.start("one")


async def test_a_stream_of_that_name_which_is_no_log_is_left_alone(members):
    asker = await nats.connect(members.url)
    await asker.jetstream().add_stream(name="MQ9", subjects=["other"])
    await asker.close()

    with pytest.raises(InvalidRequest, match="the stream MQ9 there is not a log of mq9"):
        await members.start("one")
