"""The real `nats` command, written in Go, as people type it."""

import asyncio
import json
import re

import pytest
from waiting import until

from mq9.server.users import User, Users
from tests.natscli.typed import PROGRAM, Typist

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(
        not PROGRAM.exists(), reason="make builds the nats command only where there is Go"
    ),
]


class Shell(Typist):
    """Types commands at one server.

    Args:
        url: Of the server.
        home: Where the command may keep its own settings.
    """

    def __init__(self, url, home):
        super().__init__(home)
        self.url = url

    async def begin(self, *words):
        """Start a command that goes on for some time."""
        return await self.start(self.url, *words)

    async def __call__(self, *words, code=0):
        """Run a command; what it printed."""
        printed = await self.run(self.url, *words)
        assert printed.code == code, printed
        return printed.out + printed.told

    async def request(self, verb, body="", *options):
        """Make a request; its reply as JSON."""
        return json.loads(await self("request", "--raw", f"$mq9.AI.{verb}", body, *options))


@pytest.fixture
async def shell(hosted, tmp_path):
    shell = Shell(hosted.server.url, tmp_path)
    yield shell
    await shell.close()


@pytest.mark.quick
async def test_the_quick_start_sends_fetches_and_acks(shell):
    created = await shell.request("MAILBOX.CREATE", '{"name":"quickstart.demo","ttl":300}')
    assert created == {"error": "", "mail_address": "quickstart.demo"}
    for number in range(3):  # so that there is a message 3
        sent = await shell.request("MSG.SEND.quickstart.demo", f'{{"task_id":"t-10{number}"}}')
        assert sent["msg_id"] == number

    body = '{"type":"abort","task_id":"t-001"}'
    sent = await shell.request(
        "MSG.SEND.quickstart.demo", body, "--header", "mq9-priority:critical"
    )
    assert sent == {"error": "", "msg_id": 3}

    fetch = '{"group_name": "my-worker", "deliver": "earliest", "config": {"num_msgs": 10}}'
    fetched = await shell.request("MSG.FETCH.quickstart.demo", fetch)
    assert [message["msg_id"] for message in fetched["messages"]] == [3, 0, 1, 2]
    assert fetched["messages"][0]["payload"] == body  # readable, as a person wants it
    assert fetched["messages"][0]["priority"] == "critical"

    ack = '{"group_name": "my-worker", "mail_address": "quickstart.demo", "msg_id": 3}'
    assert await shell.request("MSG.ACK.quickstart.demo", ack) == {"error": "", "acked": [3]}
    last = ack.replace("3}", "2}")  # the last of that reply confirms all of it
    assert (await shell.request("MSG.ACK.quickstart.demo", last))["acked"] == [0, 1, 2]


async def test_it_publishes_and_subscribes_as_at_any_nats_server(hosted, shell):
    listening = await shell.begin("sub", "--raw", "--count", "2", "news.>")
    await until(lambda: hosted.server.hub.router.has_interest("news.x"))
    await shell("pub", "news.sport", "one", "--count", "2")
    out, _ = await asyncio.wait_for(listening.communicate(), 30)
    assert out.split() == [b"one", b"one"]


async def test_it_answers_requests_of_others_and_they_share_the_work(hosted, shell):
    for _ in range(2):
        await shell.begin("reply", "--queue", "workers", "--echo", "service")
    await until(lambda: hosted.server.connections == 2)
    replies = [
        (await shell("request", "--raw", "service", f"n{number}")).strip() for number in range(4)
    ]
    assert replies == ["n0", "n1", "n2", "n3"]


async def test_that_there_is_no_jetstream_is_said_at_once(shell):
    printed = await shell("stream", "ls", "--timeout", "30s", code=1)
    assert re.search("jetstream|no responders", printed, re.IGNORECASE)


async def test_it_speaks_tls(encrypted, files):
    shell = Shell(encrypted.server.url, files)
    created = await shell.request(
        "MAILBOX.CREATE", '{"name":"inbox"}', "--tlsca", str(files / "ca.pem")
    )
    assert created["mail_address"] == "inbox"
    assert "x509" in await shell("request", "$mq9.AI.PUBLIC.LIST", "", code=1)


async def test_it_logs_in_and_is_then_the_sender(open_hosted, tmp_path):
    hosted = await open_hosted(guard=Users([User("secret", "ada", "Ada")]))
    shell = Shell(hosted.server.url, tmp_path)
    who = ("--user", "ada", "--password", "secret")
    await shell.request("MAILBOX.CREATE", '{"name":"ada"}', *who)
    await shell.request("MSG.SEND.ada", "x", *who, "-H", "mq9-from:Mallory")
    [message] = (await shell.request("MSG.QUERY.ada", "", *who))["messages"]
    assert (message["from"], message["from_verified"]) == ("Ada", True)

    printed = await shell("request", "$mq9.AI.PUBLIC.LIST", "", code=1)
    assert "authorization" in printed.lower()
