"""The alerts of one server: each fires at its fault, and stops when that is mended."""

import asyncio
from contextlib import AsyncExitStack, ExitStack

import namespaces
import pytest
from serving import Serving
from typer.testing import CliRunner

from mq9 import BrokerFailed, Mq9Client, Mq9Error
from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.cli.app import app
from mq9.clock import SystemClock
from mq9.transport.direct import DirectTransport

from .history import PROMTOOL, History, firing

pytestmark = [
    pytest.mark.programs,
    pytest.mark.unmeasured,
    pytest.mark.skipif(not PROMTOOL.exists(), reason="make builds promtool only where there is Go"),
]

KIB = 1024


@pytest.fixture
async def serve(tmp_path):
    """Start a server; it, its client, and the history of its metrics."""
    async with AsyncExitStack() as stack:

        async def start(*options, data=None, **how):
            file = str(data or tmp_path / "mq9.db")
            serving = Serving(tmp_path, "--data", file, *options, admin=True, **how)
            await stack.enter_async_context(serving)
            client = await stack.enter_async_context(Mq9Client(serving.url, reconnect_attempts=0))
            history = History(tmp_path, one=serving.metrics_url)
            return serving, client, history

        yield start


async def test_a_server_that_is_down(serve):
    serving, _, history = await serve()
    await history.scrape(5)
    history.expect()

    serving.kill()
    await history.scrape(2)
    history.expect(firing("Mq9Down", "one"))

    await asyncio.to_thread(serving.start)
    history.targets["one"] = serving.metrics_url
    await history.scrape(1)
    history.expect()
    history.check()


async def test_a_full_disk(serve, tmp_path):
    if reason := namespaces.why_not():
        pytest.skip(f"no mount namespaces: {reason}")
    with ExitStack() as stack:
        disk = namespaces.SmallDisk(tmp_path / "disk", 12, stack)
        file = tmp_path / "disk" / "mq9.db"
        _, client, history = await serve(data=file, prefix=disk.prefix)
        await client.mailbox_create(name="inbox")
        await history.scrape(5)
        history.expect()

        disk.fill(100 * KIB)
        for _ in range(8):
            with pytest.raises(BrokerFailed):
                await client.send("inbox", bytes(500 * KIB))
            await history.scrape(1)
        history.expect(firing("Mq9StorageDown", "one"), firing("Mq9RequestsFail"))

        disk.empty()
        await client.send("inbox", "there is room")
        await history.scrape(7)
        history.expect()
        history.check()


async def test_dead_letters(serve):
    _, client, history = await serve()
    for name in ("inbox", "inbox.dead"):
        await client.mailbox_create(name=name)
    await client.send("inbox", "poison")
    await history.scrape(5)
    history.expect()

    [poison] = await client.fetch("inbox", group_name="g")
    await client.move("inbox", "g", poison.msg_id, to="inbox.dead")
    await history.scrape(2)
    history.expect(firing("Mq9DeadLetters"))

    await history.scrape(15)  # the consumer gives up on no further message
    history.expect()
    history.check()


async def test_a_backlog_that_grows(serve):
    _, client, history = await serve()
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "first")
    taken = await client.fetch("inbox", group_name="g")
    await history.scrape(30)
    history.expect()

    for _ in range(7):
        await asyncio.gather(*(client.send("inbox", "more") for _ in range(600)))
        await history.scrape(10)
    history.expect(firing("Mq9BacklogGrows"))

    await client.ack("inbox", "g", taken[-1].msg_id)
    while fetched := await client.fetch("inbox", group_name="g", num_msgs=1_000, max_wait_ms=0):
        await client.ack("inbox", "g", fetched[-1].msg_id)
    await history.scrape(2)
    history.expect()
    history.check()


async def test_clients_that_are_cut_off(serve):
    serving, _client, history = await serve("--max-connections", "1")
    await history.scrape(5)
    history.expect()

    with pytest.raises(Mq9Error):
        async with Mq9Client(serving.url, reconnect_attempts=0):
            """It is one too many."""
    await history.scrape(2)
    history.expect(firing("Mq9ClientsCutOff"))

    await history.scrape(15)  # nobody is refused any more
    history.expect()
    history.check()


class AheadClock(SystemClock):
    """The clock of a machine that is two hours ahead."""

    def now_ms(self):
        return super().now_ms() + 7_200_000


async def test_a_clock_that_was_wrong(serve, tmp_path):
    file = tmp_path / "mq9.db"
    broker = EmbeddedBroker.on_file(file, AheadClock())
    async with Mq9Client(transport=DirectTransport(broker, BrokerSession("ahead"))) as client:
        await client.mailbox_create(name="inbox")
    await broker.close()
    _, client, history = await serve(data=file)
    await history.scrape(6)
    history.expect(firing("Mq9ClockWrong", "one"))

    command = ["doctor", "--set-clock", str(file), "--yes"]
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert done.exit_code == 0, done.output
    await client.send("inbox", "the server follows")
    await history.scrape(1)
    history.expect()
    history.check()
