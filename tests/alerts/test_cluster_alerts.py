"""The alerts of a cluster: each fires at its fault, and stops when that is mended."""

import asyncio
import shutil
import signal
import sqlite3
from contextlib import AsyncExitStack, closing

import namespaces
import pytest
from nats_server import NatsCluster
from waiting import until

from mq9 import Mq9Error
from tests.cluster.clusters import Programs
from tests.cluster.faults import LONG
from tests.cluster.test_log_room import send_until_refused

from .history import PROMTOOL, History, firing

pytestmark = [
    pytest.mark.programs,
    pytest.mark.unmeasured,
    pytest.mark.skipif(not PROMTOOL.exists(), reason="make builds promtool only where there is Go"),
]

MIB = 1024 * 1024
DELAY = "pwrite64:delay_enter=100000"  # microseconds: a disk that writes ten pages a second


@pytest.fixture
async def cluster(tmp_path):
    """Two gateways on a NATS server, a mailbox, and the history of their metrics."""
    async with AsyncExitStack() as stack:
        cluster = Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", 1))
        one, two = [await cluster.gateway(admin=True) for _ in range(2)]
        cluster.inbox_client = await cluster.client(two.url, request_timeout=60)
        await cluster.inbox_client.mailbox_create(name="inbox")
        cluster.history = History(tmp_path, one=one.metrics_url, two=two.metrics_url)
        yield cluster


async def is_healthy(history):
    await history.scrape(5)
    history.expect()


async def test_a_gateway_that_is_down(cluster):
    history, [one, _] = cluster.history, cluster.gateways
    await is_healthy(history)

    one.kill()
    await history.scrape(2)
    history.expect(firing("Mq9Down", "one"))

    await asyncio.to_thread(one.start)
    history.targets["one"] = one.metrics_url
    await history.scrape(1)
    history.expect()
    history.check()


async def test_no_nats_server_answers(cluster):
    history, [_, two] = cluster.history, cluster.gateways
    await is_healthy(history)
    [server] = cluster.servers.servers
    server.kill()
    client = await cluster.client(two.url, reconnect_attempts=0)

    def is_silent(values):
        return all(values[one, "mq9_log_silent_seconds"] > 30 for one in history.targets)

    values = await history.scrape(1)
    while not is_silent(values):
        with pytest.raises(Mq9Error):  # after some seconds
            await client.mailbox_status("inbox")
        values = await history.scrape(3)
    both = ("one", "two")
    history.expect(
        firing("Mq9StorageDown", *both),
        firing("Mq9NatsDisconnected", *both),
        firing("Mq9LogSilent", *both),
        firing("Mq9NoGatewayServes"),
        firing("Mq9RequestsFail"),
    )

    server.start()
    await until(cluster.serves)
    await client.mailbox_status("inbox")
    await history.scrape(7)
    history.expect()
    history.check()


async def test_a_gateway_that_is_behind(cluster):
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    history, [one, _] = cluster.history, cluster.gateways
    await is_healthy(history)
    command = ["strace", "-f", "-q", "-o", "/dev/null", "-e", "trace=pwrite64"]
    command += ["-e", f"inject={DELAY}", "-p", str(one.pid)]
    slow = await asyncio.create_subprocess_exec(*command)
    sending = True

    async def send():
        while sending:
            await cluster.inbox_client.send("inbox", "more")

    def behind(values):
        return values["one", "mq9_log_last"] - values["one", "mq9_log_applied"]

    senders = [asyncio.create_task(send()) for _ in range(4)]
    try:
        probe = History(cluster.directory, one=history.targets["one"])

        async def is_behind():
            return behind(await probe.scrape(1)) > 1_500

        await until(is_behind, 90)
        assert behind(await history.scrape(7)) > 1_000
    finally:
        sending = False
        slow.send_signal(signal.SIGINT)  # it leaves the gateway alone
        await slow.wait()
        await asyncio.gather(*senders)
    history.expect(firing("Mq9GatewayBehind", "one"))

    async def has_caught_up():
        return behind(await probe.scrape(1)) == 0

    await until(has_caught_up, 60)
    await history.scrape(1)
    history.expect()
    history.check()


async def test_states_that_differ(cluster):
    history, [one, _] = cluster.history, cluster.gateways
    await cluster.inbox_client.send("inbox", "the same for all")
    assert (await cluster.call("verify"))[0] == 0
    await is_healthy(history)

    file = cluster.directory / "gateway0" / "mail.db"
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        connection.execute("UPDATE messages SET payload=x'00'")
        connection.commit()
    assert (await cluster.call("verify"))[0] == 1
    await history.scrape(11)
    history.expect(firing("Mq9StatesDiffer", state=history.state))

    one.stop()
    assert await one.ended() == 0
    file.unlink()
    await asyncio.to_thread(one.start)
    history.targets["one"] = one.metrics_url
    assert (await cluster.call("verify"))[0] == 0
    await history.scrape(1)
    history.expect()
    history.check()


async def test_another_program_publishes_on_the_log(cluster):
    history, [one, _] = cluster.history, cluster.gateways
    await is_healthy(history)

    await cluster.append(b"of another program")
    await until(lambda: "none of mq9" in one.told)
    await cluster.inbox_client.send("inbox", "behind it")
    await history.scrape(1)
    history.expect(firing("Mq9ForeignRecords", "one", "two"))

    await history.scrape(60)  # nothing more comes from it
    history.expect()
    history.check()


async def test_a_log_that_is_nearly_full(cluster):
    history, client = cluster.history, cluster.inbox_client
    await is_healthy(history)

    async def is_short(wanted):
        values = await History(cluster.directory, **history.targets).scrape(1)
        return {values[one, "mq9_log_short"] for one in history.targets} == {wanted}

    await cluster.limit_log(6_000_000)
    sent, _ = await send_until_refused(client)
    await until(lambda: is_short(1))
    await history.scrape(1)
    history.expect(firing("Mq9LogFull"))

    for number in (1, 2):  # the log is kept behind the second newest
        await client.delete("inbox", sent[-number])
        assert (await cluster.call("snapshot"))[0] == 0
    await until(lambda: is_short(0))
    await history.scrape(1)
    history.expect()
    history.check()


@pytest.fixture
async def confined(tmp_path):
    """Start a gateway on a small disk; the cluster, the disk, and a client with a mailbox."""
    if reason := namespaces.why_not():
        pytest.skip(f"no mount namespaces: {reason}")
    async with AsyncExitStack() as stack:

        async def start(mebibytes, *options):
            disk = namespaces.SmallDisk(tmp_path / "disk", mebibytes, stack)
            cluster = Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", 1))
            data = ("--data", str(tmp_path / "disk" / "mail.db"))
            one = await cluster.gateway(*data, *options, admin=True, prefix=disk.prefix)
            cluster.history = History(tmp_path, one=one.metrics_url)
            client = await cluster.client(request_timeout=60)
            await client.mailbox_create(name="inbox")
            return cluster, disk, client

        yield start


async def shows(cluster, holds):
    """Wait until the metrics of the gateway show something."""
    [one] = cluster.gateways
    probe = History(cluster.directory, one=one.metrics_url)

    async def is_shown():
        values = await probe.scrape(1)
        return holds(lambda name: values["one", name])

    await until(is_shown, 120)


async def test_a_gateway_without_room_for_a_snapshot(confined):
    cluster, disk, client = await confined(24)
    history, [one] = cluster.history, cluster.gateways
    for _ in range(5):
        await client.send("inbox", bytes(MIB))
    await is_healthy(history)

    disk.fill(3 * MIB)
    await (await cluster.asker()).jetstream().purge_stream("MQ9")  # so that a snapshot is due
    one.kill()
    await asyncio.to_thread(one.start)
    history.targets["one"] = one.metrics_url
    await shows(cluster, lambda value: value("mq9_snapshot_failures") > 0)
    await history.scrape(1)
    history.expect(firing("Mq9SnapshotsFail", "one"))

    disk.empty()
    assert (await cluster.call("snapshot"))[0] == 0
    await history.scrape(61)
    history.expect()
    history.check()


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not LONG, reason="it writes a log of 2 GB, and has a long version only")
async def test_a_log_that_is_not_trimmed(confined):
    cluster, disk, client = await confined(128, "--max-payload", str(4 * MIB))
    history = cluster.history
    await client.mailbox_create(name="kept")
    await client.mailbox_create(name="newest", type="latest")
    for _ in range(10):
        await client.send("kept", bytes(4 * MIB))
    await is_healthy(history)

    disk.fill(30 * MIB)
    for _ in range(480):
        await client.send("newest", bytes(4 * MIB))
    await shows(cluster, lambda value: value("mq9_log_bytes") > 2e9)
    await shows(cluster, lambda value: value("mq9_snapshot_failures") > 0)
    await history.scrape(31)
    history.expect(firing("Mq9LogGrows", state=history.state), firing("Mq9SnapshotsFail", "one"))

    disk.empty()
    for _ in range(2):  # the log is kept behind the second newest
        await client.send("newest", "behind the log")
        assert (await cluster.call("snapshot"))[0] == 0
    await shows(cluster, lambda value: value("mq9_log_bytes") < 2e9)
    await history.scrape(61)
    history.expect()
    history.check()
