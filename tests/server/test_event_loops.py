"""`mq9 serve` on uvloop, where that is installed, and on asyncio's own event loop."""

import asyncio
import importlib.util
import os

import pytest
from raw import RawClient, publish
from serving import Serving

from mq9 import Mq9Client

pytestmark = pytest.mark.programs

LARGE = bytes(range(256)) * 4_000
LOOPS = [
    pytest.param(
        "uvloop",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
        ),
    ),
    "asyncio",
]


@pytest.fixture(params=LOOPS)
def serving(request, tmp_path):
    """Make servers on one of the event loops."""
    environment = {}
    if request.param == "asyncio":
        missing = tmp_path / "without"
        missing.mkdir()
        (missing / "uvloop.py").write_text("raise ImportError('it is as if it was not there')")
        paths = [str(missing), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)

    def make(*options):
        return Serving(tmp_path, *options, environment=environment)

    make.loop = request.param
    return make


@pytest.mark.quick
async def test_mail_goes_through_and_the_log_names_the_event_loop(serving, tmp_path):
    async with serving("--data", str(tmp_path / "mail.db")) as server:
        async with Mq9Client(server.url) as client:
            await client.mailbox_create(name="inbox")
            await asyncio.gather(*(client.send("inbox", LARGE) for _ in range(10)))
            messages = await client.fetch("inbox", group_name="g")
            assert await messages[0].ack() == [0]
        server.stop()
        assert await server.ended() == 0
        assert f"loop={serving.loop}" in server.told
        assert "Traceback" not in server.told
    assert {message.payload for message in messages} == {LARGE}


async def test_it_encrypts(serving, files):
    options = ("--tls-cert", str(files / "cert.pem"), "--tls-key", str(files / "key.pem"))
    async with serving("--memory", *options) as server:
        for number in range(10):
            async with Mq9Client(f"{server.url}?tls_ca={files / 'ca.pem'}") as client:
                inbox = await client.mailbox_create(name=f"inbox.{number}")
                await client.send(inbox, LARGE)
                [message] = await client.query(inbox)
                assert message.payload == LARGE
        assert "Traceback" not in server.told


async def test_who_reads_late_gets_everything_and_who_never_reads_is_cut_off(serving):
    async with (
        serving("--memory", "--max-pending", str(20 * len(LARGE))) as server,
        await RawClient.connect(("127.0.0.1", server.port)) as talker,
        await RawClient.connect(("127.0.0.1", server.port)) as late,
        await RawClient.connect(("127.0.0.1", server.port)) as deaf,
    ):
        for client, subject in [(late, b"few"), (deaf, b"few"), (deaf, b"many")]:
            client.send(b"SUB %b %b\r\nPING\r\n" % (subject, subject))
            assert await client.frame() == ("PONG",)
        for number in range(10):
            await talker.send_all(publish("few", b"%d" % number + LARGE))
        talker.send(b"PING\r\n")
        assert await talker.frame() == ("PONG",)
        for number in range(10):
            assert (await late.frame())[3] == b"%d" % number + LARGE
        assert "cut off" not in server.told

        async def tell():
            while "a client was cut off" not in server.told:
                await talker.send_all(publish("many", LARGE) + b"PING\r\n")
                assert await talker.frame() == ("PONG",)

        await asyncio.wait_for(tell(), 30)
        assert "Traceback" not in server.told
