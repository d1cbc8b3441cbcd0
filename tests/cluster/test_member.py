"""Gateways that serve one log, and what operators ask of them."""

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack, closing
from unittest.mock import ANY

import nats
import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats_server import NatsServer
from waiting import until, until_fetching

from mq9 import Mq9Client
from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock
from mq9.cluster.jetstream import JetStreamLog
from mq9.cluster.records import LogRecord, encode
from mq9.engine.commands import Limits
from mq9.errors import (
    Forbidden,
    InvalidRequest,
    MailboxNotFound,
    PayloadTooLarge,
    Unreachable,
    UnusableFile,
)
from mq9.protocol.headers import PayloadEncoding
from mq9.server.limits import SnapshotLimits
from mq9.server.users import User, Users
from mq9.transport.direct import DirectTransport
from tests.contract.reading import send_all

from .clusters import Members, call_cluster, is_due
from .traffic import everything

pytestmark = pytest.mark.programs


async def texts(client, group):
    """The texts of all that is in the mailbox, acked by a group."""
    return [message.text for message in await everything(client, group)]


@pytest.fixture
async def file(tmp_path):
    """A file of mq9, with a mailbox."""
    path = tmp_path / "before.db"
    async with Mq9Client(f"sqlite:///{path}") as alone:
        await alone.mailbox_create(name="inbox")
    return path


@pytest.mark.quick
async def test_whoever_answers_sees_what_was_answered_before(gateways):
    for number in range(50):
        await gateways.send("inbox", str(number))
        status = await gateways.mailbox_status("inbox")
        assert status.stored == number + 1

    assert await texts(gateways, "g") == [str(number) for number in range(50)]
    assert await texts(gateways, "g") == []


@pytest.mark.quick
async def test_who_waits_is_woken_whichever_gateway_takes_the_message(gateways):
    for number in range(10):  # the two are asked at random
        group = f"g{number}"
        waiting = asyncio.create_task(
            gateways.fetch("inbox", group_name=group, max_wait_ms=30_000, deliver="new")
        )
        await until_fetching(gateways, "inbox", group)
        await gateways.send("inbox", "wake up")
        assert [message.text for message in await waiting] == ["wake up"]


async def test_a_gateway_that_hears_nothing_any_more_makes_another_consumer(gateways, members):
    jetstream = (await members.asker()).jetstream()
    former = {one.name for one in await jetstream.consumers_info("MQ9")}
    assert len(former) == 2
    for name in former:
        await jetstream.delete_consumer("MQ9", name)

    async def are_two_others():
        await gateways.send("inbox", "x")
        return len({one.name for one in await jetstream.consumers_info("MQ9")} - former) == 2

    await until(are_two_others)
    assert (await members.call("verify"))[1]["equal"]


async def test_a_newcomer_begins_with_a_snapshot(gateways, members, caplog):
    caplog.set_level("INFO", "mq9.broker")
    await send_all(gateways, "inbox", *map(str, range(20)))
    for _ in range(2):  # the log is kept behind the second newest
        code, taken = await members.call("snapshot")
        assert code == 0
        assert taken["bytes"] > 0
        await gateways.send("inbox", "later")
    await members.stop("one")
    await members.stop("two")

    members.file("three").with_name("three.db.part").write_text("of one that was killed")
    await members.start("three")

    assert "begun from a snapshot" in caplog.text
    assert len(await texts(gateways, "g")) == 22


async def test_a_snapshot_is_due_after_many_records_or_bytes(members):
    one = await members.start("one")
    client = await members.inbox()
    for _ in range(9):
        await client.send("inbox", bytes(100))

    assert not await is_due(one)
    assert await is_due(one, snapshot_records=10)
    assert not await is_due(one, snapshot_records=11)
    assert await is_due(one, snapshot_bytes=1_000)
    assert not await is_due(one, snapshot_bytes=100_000)
    await one.take_snapshot()
    assert not await is_due(one, snapshot_records=1)
    await client.send("inbox", "x")
    assert await is_due(one, snapshot_records=1)
    assert not await is_due(one, snapshot_bytes=1)  # the snapshot is larger


async def test_a_snapshot_is_due_when_the_oldest_record_is_old_and_something_was_appended(members):
    one = await members.start("one")
    client = await members.inbox()
    assert not await is_due(one, snapshot_age=3_600)
    assert await is_due(one, snapshot_age=0)
    limits = SnapshotLimits(snapshot_age=0)
    await one.trim(limits)
    assert not await is_due(one, snapshot_age=0)  # nothing was appended since
    await client.send("inbox", "x")
    await one.trim(limits)
    assert (await one.backend.log.last()).records == 1


async def test_the_log_of_a_gateway_with_options_is_trimmed(members):
    """Records as small as these cost much in the log, and little in the state."""
    one = await members.start("one")
    client = await members.inbox()
    limits = SnapshotLimits(snapshot_records=1_000)
    for _ in range(3):
        await send_all(client, "inbox", *map(str, range(1_000)))
        while (await one.backend.log.last()).sequence - one.snapshots.newest.sequence < 1_000:
            await client.send("inbox", "x")
        await one.trim(limits)
    log = await one.backend.log.last()
    assert log.records < 2_100
    assert log.sequence >= 3_000


async def test_gateways_that_begin_a_cluster_at_once_both_serve_it(tmp_path):
    async with AsyncExitStack() as stack:
        members = Members(tmp_path, stack, 3)
        await asyncio.gather(members.start("one"), members.start("two"))

        await (await members.client()).mailbox_create(name="inbox")

        code, verified = await members.call("verify")
        assert (code, verified["equal"], len(verified["gateways"])) == (0, True, 2)


async def test_one_that_is_started_again_goes_on_with_its_file(gateways, members):
    await gateways.send("inbox", "before")
    await members.stop("one")
    await gateways.send("inbox", "meanwhile")
    await members.stop("two")
    await members.start("one")

    assert await texts(gateways, "g") == ["before", "meanwhile"]


async def test_operators_see_all_of_them_and_whether_their_states_are_equal(gateways, members):
    await gateways.send("inbox", "x")

    code, status = await members.call("status")
    assert (code, len(status["gateways"])) == (0, 2)
    assert all(one["serving"] and one["applied"] == status["last"] for one in status["gateways"])
    code, verified = await members.call("verify")
    assert (code, verified["equal"], len(verified["gateways"])) == (0, True, 2)

    await members.stop("two")
    with closing(sqlite3.connect(members.file("two"))) as copy:
        copy.execute("UPDATE state SET max_agents=7")
        copy.commit()
    await members.start("two")
    code, verified = await members.call("verify")
    assert (code, verified["equal"]) == (1, False)


async def test_verify_names_who_has_not_answered(members):
    one = await members.start("one")

    async def answer(message):
        said = {"name": "silent", "serving": True, "applied": 0, "requests": 0, "version": "1"}
        await message.respond(json.dumps(said).encode())

    silent = await members.asker()
    await silent.subscribe("MQ9.gateways", cb=answer)
    await silent.flush()

    code, verified = await members.call("verify", timeout=1)

    assert (code, verified["equal"]) == (1, False)
    assert {"name": "silent", "sequence": None, "digest": None} in verified["gateways"]
    [answered] = [gateway for gateway in verified["gateways"] if gateway["name"] == one.name]
    assert one.verified == (answered["sequence"], answered["digest"])


async def test_without_a_log_or_gateways_every_command_says_how_to_begin(members, tmp_path):
    for command in (["status"], ["verify"], ["snapshot"], ["export", tmp_path / "after.db"]):
        code, refused = await members.call(*command)
        assert code == 1
        assert refused["error"].startswith(
            "cluster: the log does not exist yet; `mq9 serve --cluster`"
        )

    await members.start("one")
    await members.stop("one")

    said = {"warnings": ["no gateway answers: start one with `mq9 serve --cluster`"]}
    assert await members.call("status") == (4, {"last": 0, "gateways": [], **said})
    assert await members.call("verify") == (4, {"equal": False, "gateways": [], **said})
    code, refused = await members.call("snapshot")
    assert (code, refused["error"]) == (1, "snapshot: no gateway answers; start one")


USERS = "authorization { users: [ {user: ada, password: right} ] }"


@pytest.mark.parametrize(
    ("config", "credentials", "kind", "told"),
    [
        ("", "", "unavailable", "cluster: JetStream does not answer: it is off"),
        (USERS, "", "unauthorized", "refused the user or token"),
        (USERS, "ada:wrong@", "unauthorized", "refused the user or token"),
    ],
)
async def test_a_server_that_serves_no_operator_is_told_at_once(
    tmp_path, config, credentials, kind, told
):
    with NatsServer(tmp_path / "nats", config=config) as server:
        url = server.url.replace("nats://", f"nats://{credentials}")
        code, refused = await call_cluster(url, "status")

    assert (code, refused["code"]) == (1, kind)
    assert told in refused["error"]
    assert "wrong" not in refused["error"]


async def test_a_file_begins_a_cluster_and_comes_out_of_it_again(members, tmp_path):
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    async with Mq9Client(f"sqlite:///{before}") as alone:
        await alone.mailbox_create(name="inbox")
        await send_all(alone, "inbox", *map(str, range(100)))
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
    assert after.stat().st_mode & 0o077 == 0  # it is nobody else's mail

    async with Mq9Client(f"sqlite:///{after}") as alone:
        assert await texts(alone, "another") == [str(number) for number in range(101)]


async def test_a_file_that_cannot_be_imported_spoils_nothing(members, tmp_path):
    text, other, good = tmp_path / "text.db", tmp_path / "other.db", tmp_path / "good.db"
    text.write_text("no database " * 100)
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE theirs (id INTEGER)")
    broker = EmbeddedBroker.on_file(good, SystemClock(), limits=Limits(max_payload=8 << 20))
    async with Mq9Client(
        transport=DirectTransport(broker, BrokerSession("x"), broker.close)
    ) as alone:
        await alone.mailbox_create(name="inbox")
        long = await alone.send("inbox", bytes(7 << 20))

    for file, code, said in (
        (tmp_path / "missing.db", 1, "is not there"),
        (text, 1, "is not a database of mq9"),
        (other, 1, "is the database of another program"),
        (good, 2, "has 1 messages with more than"),
    ):
        refused_with, refused = await members.call("import", file)
        assert (refused_with, said in refused["error"]) == (code, True), refused
    async with Mq9Client(f"sqlite:///{good}") as alone:
        await alone.delete("inbox", long)
    assert (await members.call("import", good))[0] == 0
    await members.start("one")
    assert (await (await members.client()).mailbox_status("inbox")).stored == 0


async def test_a_file_in_use_is_not_imported(members, file):
    async with Mq9Client(f"sqlite:///{file}") as client:
        await client.send("inbox", "in use")
        code, refused = await members.call("import", file)
        assert (code, refused["error"]) == (
            2,
            f"import: another program uses {file}; stop it first",
        )
        await client.send("inbox", "still")
    assert (await members.call("import", file))[0] == 0
    await members.start("one")
    assert await texts(await members.client(), "g") == ["in use", "still"]


async def test_an_import_that_was_broken_off_is_made_again_and_no_other(members, file):
    """Only a cluster without a log or gateways takes a file."""
    await members.start("one")
    await members.stop("one")
    await members.append(encode(LogRecord("operator", 1, 0)))

    told = {"sequence": 1, "bytes": ANY, "digest": ANY}
    assert await members.call("import", file) == (0, told)
    await members.start("two")

    assert (await (await members.client()).mailbox_status("inbox")).stored == 0
    code, refused = await members.call("import", file)
    assert (code, refused["error"]) == (2, "import: 1 gateways are running; stop them first")
    await members.stop("two")
    code, refused = await members.call("import", file)
    assert code == 2
    assert refused["error"].startswith("import: this cluster has a log already")


async def test_a_file_that_no_gateway_made_is_left_alone_and_without_a_server_none_begins(members):
    async with Mq9Client(f"sqlite:///{members.file('one')}") as alone:
        await alone.mailbox_create(name="inbox")
    before = members.file("one").read_bytes()

    with pytest.raises(UnusableFile, match="was not made by a gateway, and is left alone"):
        await members.start("one")

    assert members.file("one").read_bytes() == before
    members.servers.servers[0].kill()
    with pytest.raises(Unreachable, match=r"cluster: no server answers at nats://127\.0\.0\.1"):
        await members.start("two")


async def test_a_copy_of_a_former_log_is_not_used_again(members):
    await members.start("one")
    await (await members.client()).mailbox_create(name="former")
    await members.stop("one")
    assert (await members.call("reset", "--yes"))[0] == 0

    await members.start("two")
    await (await members.client()).mailbox_create(name="later")
    await members.start("one")

    assert (await members.call("verify"))[1]["equal"]
    with pytest.raises(MailboxNotFound):
        await (await members.client()).mailbox_status("former")


async def test_snapshots_of_another_log_are_not_used(members, file):
    await members.start("one")
    for name in ("a", "b"):
        await (await members.client()).mailbox_create(name=name)
    assert (await members.call("snapshot"))[0] == 0
    await members.stop("one")
    jetstream = (await members.asker()).jetstream()
    await jetstream.delete_stream("MQ9")
    await jetstream.delete_stream("KV_MQ9_LOG")

    code, refused = await members.call("import", file)
    assert (code, "has snapshots of another log; run" in refused["error"]) == (2, True)
    log = JetStreamLog(await members.asker(), SystemClock())
    await log.create(1, "another")
    with pytest.raises(InvalidRequest, match="has a snapshot of another log; delete it"):
        await members.start("two")
    assert (await members.call("reset", "--yes"))[0] == 0
    assert (await members.call("import", file))[0] == 0


async def test_two_gateways_do_not_share_a_file(members):
    await members.start("one")

    with pytest.raises(UnusableFile, match="is the file of another gateway that runs"):
        await members.start("one")


async def test_an_export_overwrites_nothing(members, tmp_path):
    await members.start("one")
    there = tmp_path / "there.db"

    code, refused = await members.call("export", there)
    assert code == 2
    assert refused["error"].startswith("export: no snapshot is stored; `mq9 cluster snapshot`")
    there.write_text("mine")
    code, refused = await members.call("export", there)
    assert (code, refused["error"]) == (2, f"export: {there} exists")


async def test_a_reply_fits_into_a_message_of_the_cluster(gateways):
    body = bytes(range(256)) * 2_000  # half a megabyte, and not text
    for _ in range(30):
        await gateways.send("inbox", body)

    given = 0
    while fetched := await gateways.fetch("inbox", group_name="g", max_bytes=64 << 20):
        given += len(fetched)
        await gateways.ack("inbox", "g", fetched[-1].msg_id)

    assert given == 30


async def test_a_message_that_could_not_be_given_back_is_refused(members):
    await members.start("one", limits=Limits(max_payload=8 << 20))
    client = await members.inbox()

    with pytest.raises(PayloadTooLarge, match="max_payload"):
        await client.send("inbox", bytes(7 << 20))
    await client.send("inbox", bytes(6_000_000))
    [message] = await client.fetch("inbox", group_name="g")
    assert message.payload == bytes(6_000_000)


async def test_each_connection_of_the_sdk_has_inboxes_of_its_own(members):
    """By these a gateway tells clients apart, keeps their order and divides its time."""
    await members.start("one")
    listener = await members.asker()
    requests = await listener.subscribe("$mq9.AI.MSG.>")
    await listener.flush()
    ada, bob = await members.inbox(), await members.client()
    for client in (ada, ada, bob):
        await client.send("inbox", "x")
        await client.fetch("inbox", group_name="g", max_wait_ms=0)
    replies = [(await requests.next_msg(timeout=10)).reply for _ in range(6)]
    begun = [reply.rpartition(".")[0] for reply in replies]
    assert begun[:4] == [begun[0]] * 4
    assert begun[4:] == [begun[4]] * 2
    assert begun[0] != begun[4]
    assert len(set(replies)) == 6


async def test_who_comes_by_the_cluster_is_no_operator(members):
    users = Users([User("secret", agent="ada")])
    reserved = users.reserved
    member = await members.start("one", gateway=[users])
    stranger = await members.client()

    async def release():
        """The broker belongs to the gateway."""

    session = BrokerSession("x", "ada", reserved)
    async with Mq9Client(transport=DirectTransport(member.broker, session, release)) as ada:
        await ada.mailbox_create(name="box")
        await ada.mailbox_create(name="ada.turns", send_policy="creator")
        await ada.mailbox_create(name="shared", send_policy="granted")
        await stranger.send("box", "x")

        for attempt in (
            stranger.query("box"),
            stranger.fetch("box", group_name="g"),
            stranger.mailbox_status("box"),
            stranger.mailbox_drop("box"),
            stranger.mailbox_create(name="box", renew=True),
            stranger.mailbox_grant("box", send_policy="creator"),
            stranger.mailbox_create(name="ada"),
            stranger.mailbox_create(name="ada.questions"),
            stranger.send("ada.turns", "forged"),
            stranger.send("shared", "forged", sender="ada"),
        ):
            with pytest.raises(Forbidden):
                await attempt
        for address, texts_there in {"box": ["x"], "ada.turns": [], "shared": []}.items():
            assert [one.text for one in await ada.query(address)] == texts_there

    await stranger.mailbox_create(name="open", send_policy="creator")
    await stranger.send("open", "x")
    assert (await stranger.mailbox_status("open")).rights == ("look", "take", "send", "grant")


async def is_without_subscriber(connection, subject):
    try:
        await connection.request(subject, b"", timeout=0.1)
    except NoRespondersError:
        return True
    except NatsTimeoutError:
        return False
    raise AssertionError("somebody answers")


@pytest.mark.parametrize("size", [1, 3])
async def test_mail_whose_asker_has_gone_is_given_to_the_next_one(tmp_path, size):
    """Whichever of the servers it was connected to."""
    async with AsyncExitStack() as stack:
        members = Members(tmp_path, stack, size)
        await members.start("one")
        client = await members.inbox()
        probes = [await nats.connect(url) for url in members.servers.urls]
        for probe in probes:
            stack.push_async_callback(probe.close)
        for url in members.servers.urls:
            gone = await nats.connect(url)
            inbox = gone.new_inbox()
            await gone.subscribe(inbox)
            config = {"max_wait_ms": 60_000, "lease_ms": 600_000}
            wanted = json.dumps({"group_name": "g", "config": config}).encode()
            await gone.publish("$mq9.AI.MSG.FETCH.inbox", wanted, reply=inbox)

            async def is_waiting():
                [status] = await members.status()
                return status["requests"] == 1

            await until(is_waiting)
            await gone.close()
            for probe in probes:
                await until(lambda probe=probe, inbox=inbox: is_without_subscriber(probe, inbox))
            await client.send("inbox", url)
            [message] = await client.fetch("inbox", group_name="g", max_wait_ms=10_000)
            assert (message.text, message.delivery_count) == (url, 1)
            await client.ack("inbox", "g", message.msg_id)


@pytest.mark.parametrize(
    ("setting", "encodings"), [("auto", [None, "base64"]), ("base64", ["base64", "base64"])]
)
async def test_bodies_stand_in_replies_as_the_gateway_was_told(members, setting, encodings):
    await members.start("one", gateway=[None, PayloadEncoding(setting)])
    await (await members.inbox()).send("inbox", "text")
    asker = await members.asker()
    config = {"num_msgs": 1, "max_wait_ms": 0}
    said = []
    for official in ({}, {"deliver": "earliest", "force_deliver": False}):
        body = {"group_name": f"g{len(said)}", "config": config, **official}
        reply = await asker.request("$mq9.AI.MSG.FETCH.inbox", json.dumps(body).encode())
        [message] = json.loads(reply.data)["messages"]
        said.append(message.get("encoding"))
    assert said == encodings
