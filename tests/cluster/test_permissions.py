"""The NATS permissions on the page: enough for each role, and not for the attacks of a client."""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from pathlib import Path

import nats
import pytest
from calls import call
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats_keys import USER
from nats_server import NatsServer
from waiting import until

from mq9 import Mq9Client
from mq9.clock import SystemClock
from mq9.cluster import permissions
from mq9.cluster.connection import connect
from mq9.cluster.member import joined
from mq9.cluster.records import LogRecord, encode
from mq9.engine.codec import encode_call
from mq9.errors import Forbidden, InvalidRequest, MailboxNotFound, Unauthorized
from mq9.protocol import requests

from .clusters import Cluster, Members, call_cluster, is_due
from .traffic import everything

pytestmark = pytest.mark.programs

PAGE = Path(__file__).parents[2] / "docs/how-to/cluster.md"
BLOCK = re.compile(r"^```conf\n# nats-server\.conf\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROLES = ("gateway", "operator", "ada", "bob")
CREATE = "$mq9.AI.MAILBOX.CREATE"


class Guarded(Members):
    """Gateways on a server that has the configuration of the page.

    Args:
        directory: Where they may write.
        stack: Ends them.
        config: The configuration.
    """

    def __init__(self, directory, stack, config):
        config = config.replace("store_dir: nats", f'store_dir: "{directory}/store"')
        server = NatsServer(directory / "nats", config=config)
        Cluster.__init__(self, directory, stack, server)
        self._stacks = {}

    @property
    def url(self):
        return self.of("gateway")

    def of(self, role):
        """The URL that a role connects to."""
        url = self.servers.url.replace("nats://", f"nats://{role}:{role}-secret@")
        return url if role in {"gateway", "operator"} else f"{url}?inbox_prefix=_INBOX.{role}"

    async def person(self, name):
        """A client of mq9."""
        return await self.client(self.of(name))

    async def connect(self, role, refusals, **options):
        """Connect a plain client of NATS, which notes what is refused."""

        async def note(error):
            refusals.append(str(error))

        connection = await nats.connect(
            self.servers.url, user=role, password=f"{role}-secret", error_cb=note, **options
        )
        self.stack.push_async_callback(connection.close)
        return connection

    async def call(self, *arguments, timeout=30):
        return await call_cluster(self.of("operator"), *arguments, timeout=timeout)

    @property
    def violations(self):
        """What the server has logged that somebody may not do."""
        log = (self.directory / "nats" / "server.log").read_text("utf-8")
        return [line for line in log.splitlines() if "Violation" in line]


@pytest.fixture
async def guarded(tmp_path, monkeypatch):
    for role in ROLES:
        monkeypatch.setenv(f"{role.upper()}_PASSWORD", f"{role}-secret")
    [config] = BLOCK.findall(PAGE.read_text("utf-8"))
    # A reply of mq9 is no request of JetStream; one that is not strict takes it for one.
    config = config.replace("jetstream {", "jetstream { strict: false,", 1)
    async with AsyncExitStack() as stack:
        yield Guarded(tmp_path, stack, config)


async def test_every_role_may_do_what_it_is_for(guarded, tmp_path):
    one = await guarded.start("one")
    await guarded.start("two")
    ada, bob = await guarded.person("ada"), await guarded.person("bob")
    await ada.mailbox_create(name="inbox")
    waiting = asyncio.create_task(ada.fetch("inbox", group_name="g", max_wait_ms=30_000))
    await bob.send("inbox", "hello")
    [message] = await waiting
    await ada.ack("inbox", "g", message.msg_id)
    assert (await ada.mailbox_status("inbox")).stored == 1

    code, status = await guarded.call("status")
    assert (code, len(status["gateways"])) == (0, 2)
    code, verified = await guarded.call("verify")
    assert (code, verified["equal"], len(verified["gateways"])) == (0, True, 2)
    for number in range(3):  # the third has the older ones, and the log behind them, removed
        assert (await guarded.call("snapshot"))[0] == 0
        await bob.send("inbox", str(number))
    assert await is_due(one, snapshot_records=1)
    await guarded.stop("two")
    guarded.file("two").unlink()
    await guarded.start("two")  # from a snapshot
    assert (await guarded.call("verify"))[1]["equal"]
    assert (await guarded.call("export", tmp_path / "after.db"))[0] == 0

    assert guarded.violations == []


async def test_an_operator_may_begin_a_cluster_with_a_file(guarded, tmp_path):
    """Again where that was broken off; and it may hold more than a server sends at once."""
    file = tmp_path / "before.db"
    async with Mq9Client(f"sqlite:///{file}") as alone:
        await alone.mailbox_create(name="inbox")
        for _ in range(8):
            await alone.send("inbox", bytes(600_000))
    await guarded.start("one")
    await guarded.stop("one")
    operator = await guarded.connect("operator", [], inbox_prefix="_INBOX.MQ9.operator")
    [subject] = (await operator.jetstream().stream_info("MQ9")).config.subjects
    await operator.publish(subject, encode(LogRecord("operator", 1, 0)))
    await operator.flush()

    assert (await guarded.call("import", file))[0] == 0
    await guarded.start("two")

    messages = await everything(await guarded.person("ada"), "g")
    assert [len(message.payload) for message in messages] == [600_000] * 8
    assert (await guarded.call("export", tmp_path / "after.db"))[0] == 0
    assert guarded.violations == []


@pytest.fixture
async def attacked(guarded):
    """A gateway, a mailbox of bob, and what the log and the snapshots had before the attack."""
    one = await guarded.start("one")
    bob = await guarded.person("bob")
    await bob.mailbox_create(name="inbox")
    await bob.send("inbox", "hello")
    assert (await guarded.call("snapshot"))[0] == 0
    assert guarded.violations == []
    guarded.one, guarded.bob = one, bob
    guarded.before = await stored(one)
    return guarded


async def stored(member):
    """The first and the last message of the log and of the store of snapshots, and their bytes."""
    jetstream = member.client.jetstream()
    streams = [(await jetstream.stream_info(one)).state for one in ("MQ9", "OBJ_MQ9_SNAPSHOTS")]
    return [(one.first_seq, one.last_seq, one.bytes) for one in streams]


async def test_a_client_has_a_gateway_publish_nowhere_but_to_inboxes(attacked):
    replies = (
        *("$JS.API.STREAM.PURGE.MQ9", "$JS.API.STREAM.DELETE.MQ9"),
        *("$O.MQ9_SNAPSHOTS.M.MDAwMDAwMDAwMDAwMDAwMDAwMDI=", "$O.MQ9_SNAPSHOTS.C.x"),
        *("MQ9.append.x", "$KV.MQ9_LOG.log", "MQ9.gateways", "_INBOX.MQ9.gateway.x"),
    )
    ada = await attacked.connect("ada", [])
    for reply in replies:
        await ada.publish(CREATE, json.dumps({"name": "stray"}).encode(), reply=reply)
    await ada.flush()
    await until(lambda: attacked.one.gateway.refused == len(replies))

    assert await stored(attacked.one) == attacked.before
    assert attacked.one.backend.left_out == 0
    with pytest.raises(MailboxNotFound):
        await attacked.bob.mailbox_status("stray")


async def test_a_client_publishes_nothing_but_requests(attacked):
    refusals = []
    ada = await attacked.connect("ada", refusals)
    forged = encode_call(call(requests.Send, "inbox", payload=b"forged"))
    record = encode(LogRecord("ada", 1, 0, (forged,)))
    sequence = attacked.one.backend.sequence + 1
    headers = {"Nats-Sequence": str(sequence), "Nats-Time-Stamp": "2026-01-01T00:00:00Z"}
    subjects = (
        *("$JS.API.STREAM.PURGE.MQ9", "$JS.API.STREAM.INFO.MQ9", "$JS.API.CONSUMER.CREATE.MQ9.x"),
        *("$JS.API.DIRECT.GET.MQ9", "$O.MQ9_SNAPSHOTS.M.x", "MQ9.append"),
        *(
            "MQ9.append.x",
            "$KV.MQ9_LOG.log",
            "$JS.API.STREAM.DELETE.MQ9",
            "MQ9.gateways",
            "MQ9.snapshot",
            "MQ9.gateway.x",
            "_INBOX.bob.x",
            "_INBOX.MQ9.gateway.x",
        ),
    )
    for subject in subjects:
        await ada.publish(subject, record, reply="_INBOX.ada.x", headers=headers)
    await ada.flush()
    await until(lambda: len(refusals) == len(subjects))

    for subject, refusal in zip(subjects, refusals, strict=True):
        assert f'permissions violation for publish to "{subject}"'.lower() in refusal.lower()
    assert await stored(attacked.one) == attacked.before
    assert attacked.one.backend.sequence == sequence - 1
    assert (await attacked.bob.mailbox_status("inbox")).stored == 1


async def test_a_client_overhears_nothing(attacked):
    refusals = []
    ada = await attacked.connect("ada", refusals)
    wanted = (
        *(">", "$mq9.AI.>", "$mq9.AI.MSG.SEND.inbox", "MQ9.>", "$JS.API.>"),
        *("_INBOX.>", "_INBOX.*.>", "_INBOX.bob.>", "_INBOX.MQ9.>"),
    )
    heard = [await ada.subscribe(subject) for subject in wanted]
    heard.append(await ada.subscribe("$mq9.AI.>", queue="mq9"))
    await ada.flush()
    await until(lambda: len(refusals) == len(heard))
    await attacked.bob.send("inbox", "secret")
    [first, _] = await attacked.bob.fetch("inbox", group_name="g")
    assert (await attacked.call("status"))[0] == 0
    await ada.flush()

    assert all("permissions violation for subscription" in one for one in refusals)
    assert first.text == "hello"
    assert [one.pending_msgs for one in heard] == [0] * len(heard)


async def test_a_client_without_the_prefix_of_its_inboxes_gets_no_reply(attacked):
    refusals = []
    ada = await attacked.connect("ada", refusals)
    with pytest.raises((NatsTimeoutError, NoRespondersError)):
        await ada.request(CREATE, b"{}", timeout=0.5)
    assert any("permissions violation for subscription" in one for one in refusals)


async def test_a_gateway_or_an_operator_may_have_an_nkey(tmp_path):
    config = f"authorization {{ users: [{{ nkey: {USER.public} }}] }}"
    (tmp_path / "user.nk").write_text(USER.seed)
    with NatsServer(tmp_path / "server", config=config) as server:
        client = await connect(f"{server.url}?nkey={tmp_path / 'user.nk'}", "operator", "inbox")
        assert client.is_connected
        await client.close()
        with pytest.raises(Unauthorized):
            await connect(server.url, "operator", "inbox", 5)
        with pytest.raises(InvalidRequest, match="ignore_discovered is for clients"):
            await connect(f"{server.url}?ignore_discovered=true", "operator", "inbox")


def of_the_gateway():
    """What the page lets a gateway publish and subscribe to."""
    [config] = BLOCK.findall(PAGE.read_text("utf-8"))
    part = config.partition("user: gateway")[2].partition("user: operator")[0]
    publish, _, subscribe = part.partition("subscribe:")
    return re.findall(r'"([^"]+)"', publish), re.findall(r'"([^"]+)"', subscribe)


TRIALS = [
    ("publish", [one.permission for one in permissions.PUBLISH] + ["_INBOX.>"]),
    (
        "subscribe",
        [one.permission for one in (*permissions.SUBSCRIBE, permissions.CALLERS)],
    ),
]


def test_the_page_lists_exactly_the_permissions_that_are_tried():
    assert [set(found) for found in of_the_gateway()] == [set(tried) for _, tried in TRIALS]


async def test_a_missing_permission_is_named_when_a_gateway_starts(tmp_path):
    """And the trials change nothing of the log, the identity or the snapshots."""
    given = dict(zip(("publish", "subscribe"), of_the_gateway(), strict=True))
    lacks = [(verb, one) for verb, tried in TRIALS for one in tried]
    users = [{"user": "all", "password": "x", "permissions": given}]
    for number, (verb, lacking) in enumerate(lacks):
        left = {**given, verb: [one for one in given[verb] if one != lacking]}
        users.append({"user": f"u{number}", "password": "x", "permissions": left})
    rights = json.dumps({"users": users})
    config = f'jetstream {{ store_dir: "{tmp_path}/store" }}\nauthorization: {rights}'
    with NatsServer(tmp_path / "nats", config=config) as server:

        def joining(user):
            url = server.url.replace("nats://", f"nats://{user}:x@")
            return joined(url, tmp_path / f"{user}.db", SystemClock(), has_callers=True)

        async with joining("all") as member:
            await member.gateway.start()
            await member.take_snapshot()
            before = await stored(member)
            for number, (verb, lacking) in enumerate(lacks):
                with pytest.raises(Forbidden, match="lacks permissions: ") as refused:
                    async with joining(f"u{number}"):
                        """It does not get that far."""
                assert str(refused.value).endswith(f"lacks permissions: {verb} {lacking}")
            assert await stored(member) == before


async def test_a_client_that_calls_a_command_of_operators_learns_what_it_lacks(attacked):
    url = attacked.of("ada").partition("?")[0]
    code, refused = await call_cluster(url, "status", timeout=5)
    assert (code, refused["code"]) == (1, "forbidden")
    assert "this NATS user may not " in refused["error"]
