"""Clients that NATS authenticates: gateways know them by the subjects of their requests."""

import asyncio
import re
import sys
from contextlib import AsyncExitStack

import nats
import orjson
import pytest
from nats.errors import NoRespondersError
from nats_server import NatsCluster, NatsServer
from typer.testing import CliRunner
from users_file import write_users
from waiting import until

from mq9.cli.app import app
from mq9.errors import Forbidden, InvalidRequest, OutcomeUnknown, Unauthorized
from mq9.models import Identity, Role
from mq9.server.users import Users

from .clusters import Cluster, Members, Programs
from .test_permissions import BLOCK, PAGE, Guarded

pytestmark = pytest.mark.programs

CALLERS_PAGE = PAGE.with_name("cluster-users.md")
ONE_ACCOUNT, ACCOUNTS, LIMITED = re.findall(
    r"^```conf\n(.*?)^```$", CALLERS_PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
)
[USERS] = re.findall(
    r"^```toml\n(.*?)^```$", CALLERS_PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
)
ADMIN = '\n[[users]]\nrole = "operator"\ncaller = "admin"\n'
ROLES = ("gateway", "operator", "ada", "bob")


@pytest.fixture
def users(tmp_path):
    """The users of the page."""
    return Users.from_file(write_users(tmp_path, USERS))


@pytest.fixture
async def stack(monkeypatch):
    for role in ROLES:
        monkeypatch.setenv(f"{role.upper()}_PASSWORD", f"{role}-secret")
    async with AsyncExitStack() as stack:
        yield stack


class OneAccount(Guarded):
    """Gateways, and clients of which each may publish under its own name only."""

    def of(self, role):
        url = super().of(role)
        return f"{url}&caller={role}" if role in {"ada", "bob"} else url


def one_account(directory, stack, further=""):
    """Gateways on a server with the permissions of the page, and further users."""
    [config] = BLOCK.findall(PAGE.read_text("utf-8"))
    anonymous = config[config.index("      {\n        user: ada") : config.index("    ]\n  }\n}")]
    return OneAccount(directory, stack, config.replace(anonymous, ONE_ACCOUNT + further))


class Accounts(Members):
    """Gateways, and clients of other NATS accounts, which import their own subjects only."""

    def __init__(self, directory, stack):
        config = f'jetstream {{ store_dir: "{directory}/store" }}\n{ACCOUNTS}'
        Cluster.__init__(self, directory, stack, NatsServer(directory / "nats", config=config))
        self._stacks = {}

    @property
    def url(self):
        return self.of("gateway")

    def of(self, role):
        """The URL that a role connects to."""
        return self.servers.url.replace("nats://", f"nats://{role}:{role}-secret@")

    async def person(self, name):
        """A client of mq9."""
        return await self.client(self.of(name))


@pytest.fixture(params=["one account", "accounts"])
async def servers(request, tmp_path, stack, users):
    if request.param == "accounts":
        found = Accounts(tmp_path, stack)
        options = {"reply_prefixes": ("_R_.", "_INBOX.")}
    else:
        found, options = one_account(tmp_path, stack), {}
    found.member = await found.start("one", gateway=[users], **options)
    await found.member.broker.claim(users.reserved)
    return found


async def test_a_caller_is_its_agent(servers):
    ada, bob = await servers.person("ada"), await servers.person("bob")
    assert await ada.identity() == Identity("Ada", Role.AGENT)
    await ada.mailbox_create(name="ada", renew=True)
    waiting = asyncio.create_task(ada.fetch("ada", group_name="g", max_wait_ms=30_000))
    await bob.send("ada", "hello", sender="Ada")  # a claim, which the broker replaces
    [message] = await waiting
    assert (message.sender, message.sender_verified) == ("Bob", True)
    await ada.ack("ada", "g", message.msg_id)

    await ada.mailbox_create(name="team")
    for attempt in (
        bob.query("ada"),
        bob.fetch("ada", group_name="g"),
        bob.mailbox_status("ada"),
        bob.mailbox_drop("ada"),
        bob.mailbox_create(name="ada.below"),
        bob.agent_register({"name": "Ada", "mailbox": "bob"}),
        bob.query("team"),
        bob.send("team", "beyond its allow-list"),
    ):
        with pytest.raises(Forbidden):
            await attempt
    await ada.mailbox_grant("team", readers=["Bob"])
    assert await bob.query("team") == []


def rights_on_the_page():
    """The table of the page: role and right of each cell, and whether the role has it."""
    rows = re.findall(r"^\| (.+) \|$", CALLERS_PAGE.read_text("utf-8"), re.MULTILINE)
    head, *rows = [row.split(" | ") for row in rows if " | yes" in row or row.startswith("right ")]
    return {
        (role.strip("`"), right): cell == "yes"
        for right, *cells in rows
        for role, cell in zip(head[1:], cells, strict=True)
    }


class Person:
    """A plain NATS client of a role, which notes what NATS refuses."""

    def __init__(self, role, caller):
        self.role = role
        self.root = f"$mq9.as.{caller}.AI." if caller else "$mq9.AI."
        self.inbox = {"gateway": "_INBOX.MQ9.gateway", "operator": "_INBOX.MQ9.operator"}.get(
            role, f"_INBOX.{role}"
        )

    async def connect(self, url, stack):
        self._refused = 0

        async def note(error):
            self._refused += "permissions violation" in str(error).lower()

        self._client = await nats.connect(
            url, user=self.role, password=f"{self.role}-secret", error_cb=note
        )
        stack.push_async_callback(self._client.close)
        self._heard = await self._client.subscribe(f"{self.inbox}.x.*")
        return self

    async def may_publish(self, subject, payload=b"{", **headers):
        before = self._refused
        await self._client.publish(subject, payload, headers=headers or None)
        for _ in range(2):
            await self._client.flush()
        return self._refused == before

    async def may_subscribe(self, subject):
        before = self._refused
        subscription = await self._client.subscribe(subject)
        for _ in range(2):
            await self._client.flush()
        await subscription.unsubscribe()
        return self._refused == before

    async def asks(self, subject, body=b"{}", **headers):
        """Make a request of mq9; whether it was carried out."""
        before = self._refused
        await self._client.publish(
            self.root + subject, body, f"{self.inbox}.x.1", headers=headers or None
        )
        for _ in range(2):
            await self._client.flush()
        if self._refused > before:
            return False
        return "code" not in orjson.loads((await self._heard.next_msg(timeout=10)).data)


TRIALS = {
    "write to the log": lambda one: one.may_publish(
        "MQ9.append.x", **{"Nats-Expected-Stream": "no-stream-of-mq9"}
    ),
    "read the log": lambda one: one.may_publish("$JS.API.DIRECT.GET.MQ9"),
    "remove the log": lambda one: one.may_publish("$JS.API.STREAM.DELETE.MQ9"),
    "ask for the status of the gateways": lambda one: one.may_publish("MQ9.gateways"),
    "answer requests": lambda one: one.may_subscribe("$mq9.AI.>"),
    "hear the replies to `ada`": lambda one: one.may_subscribe("_INBOX.ada.>"),
    "send to a mailbox of Ada": lambda one: one.asks("MSG.SEND.ada", b"x"),
    "read a mailbox of Ada": lambda one: one.asks("MSG.QUERY.ada"),
    "grant or drop a mailbox of Ada": lambda one: one.asks("MAILBOX.GRANT.ada", b'{"readers":[]}'),
    "read a mailbox that no agent created": lambda one: one.asks("MSG.QUERY.common"),
    "create a mailbox below `ada`": lambda one: one.asks(
        "MAILBOX.CREATE", b'{"name":"ada.%b"}' % one.role.encode()
    ),
}


async def test_each_role_has_the_rights_of_the_table_and_no_others(tmp_path, stack, monkeypatch):
    further = "".join(
        f"\n{{ user: {role}, password: {role}-secret\n"
        f'  permissions: {{ publish: "{root}>", subscribe: "_INBOX.{role}.>" }} }}\n'
        for role, root in (("admin", "$mq9.as.admin.AI."), ("carl", "$mq9.AI."))
    )
    guard = Users.from_file(write_users(tmp_path, USERS + ADMIN))
    guarded = one_account(tmp_path, stack, further)
    member = await guarded.start("one", gateway=[guard])
    await member.broker.claim(guard.reserved)
    people = {
        role: await Person(role, role if role in {"ada", "bob", "admin"} else None).connect(
            guarded.servers.url, stack
        )
        for role in ("gateway", "operator", "ada", "bob", "admin", "carl")
    }
    ada, carl = people["ada"], people["carl"]
    assert await ada.asks("MAILBOX.CREATE", b'{"name":"ada","renew":true}')
    assert await carl.asks("MAILBOX.CREATE", b'{"name":"common"}')

    async def may(role, right):
        if right != "send as Ada, verified":
            return await TRIALS[right](people[role])
        return await people[role].asks("MSG.SEND.ada", b"x") and await newest() == "Ada"

    async def newest():
        reader = await guarded.client(guarded.of("ada"))
        message = (await reader.query("ada"))[-1]
        return message.sender if message.sender_verified else None

    expected = rights_on_the_page()
    assert len(expected) == 6 * (len(TRIALS) + 1)
    found = {cell: await may(*cell) for cell in expected}
    assert found == expected


async def test_nobody_speaks_as_another(servers):
    """NATS refuses the subjects of others, and a gateway a name that it does not know."""
    ada = await servers.person("ada")
    await ada.mailbox_create(name="ada", renew=True)
    is_account = isinstance(servers, Accounts)
    prefix = {} if is_account else {"inbox_prefix": "_INBOX.bob"}
    refusals = []

    async def note(error):
        refusals.append(str(error))

    bob = await nats.connect(
        servers.servers.url, user="bob", password="bob-secret", error_cb=note, **prefix
    )
    servers.stack.push_async_callback(bob.close)
    if is_account:
        with pytest.raises(NoRespondersError):
            await bob.request("$mq9.as.ada.AI.MSG.QUERY.ada", b"{}", timeout=5)
        reply = await bob.request("$mq9.AI.MSG.QUERY.ada", b"{}", timeout=5)
        assert orjson.loads(reply.data)["code"] == "forbidden"
        return
    for subject in ("$mq9.as.ada.AI.MSG.QUERY.ada", "$mq9.AI.MSG.QUERY.ada"):
        await bob.publish(subject, b"{}", "_INBOX.bob.1")
        await until(lambda subject=subject: any(subject.lower() in one.lower() for one in refusals))
    stranger = f"{servers.of('gateway')}?caller=nobody"
    with pytest.raises(Forbidden, match="permissions violation"):
        await (await servers.client(stranger)).query("ada")


async def test_a_name_that_no_user_has_is_unauthorized(tmp_path, stack, users):
    cluster = Members(tmp_path, stack)
    await cluster.start("one", gateway=[users])
    client = await cluster.client(f"{cluster.url}?caller=nobody")
    with pytest.raises(Unauthorized, match="caller: 'nobody' is not a user of this gateway"):
        await client.mailbox_create(name="box")
    assert (await (await cluster.client()).identity()) == Identity(None)  # anonymous as before


async def examined(url):
    """Run `mq9 doctor`; state and text of its checks, by name."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mq9", "--url", url, "doctor", "--json"),
        stdout=asyncio.subprocess.PIPE,
    )
    document, _ = await program.communicate()
    checks = orjson.loads(document)["checks"]
    return {one["name"]: (one["state"], one["text"]) for one in checks}


async def test_the_doctor_tells_who_the_client_is_and_finds_what_nats_lets_it_do(
    tmp_path, stack, users
):
    guarded = one_account(tmp_path, stack)
    await guarded.start("one", gateway=[users])
    said = await examined(guarded.of("ada"))
    assert said["identity"] == ("ok", "the broker knows this client as Ada (agent)")
    assert said["caller"] == ("ok", "NATS refuses this client the names of other callers")

    careless = Members(tmp_path / "careless", stack)
    await careless.start("one", gateway=[users])
    said = await examined(f"{careless.url}?caller=ada")
    assert said["caller"] == (
        "problem",
        "NATS lets this client publish as every caller, and so be every agent",
    )
    said = await examined(careless.url)
    assert said["identity"] == (
        "ok",
        "this client is anonymous: it can use every mailbox that belongs to no agent",
    )


async def test_an_operator_may_be_a_caller(tmp_path, stack):
    guard = Users.from_file(write_users(tmp_path, USERS + ADMIN))
    cluster = Members(tmp_path, stack)
    await cluster.start("one", gateway=[guard])
    ada = await cluster.client(f"{cluster.url}?caller=ada")
    await ada.mailbox_create(name="ada")
    operator = await cluster.client(f"{cluster.url}?caller=admin")
    assert await operator.identity() == Identity(None, Role.OPERATOR)
    assert (await operator.mailbox_status("ada")).stored == 0


async def test_two_callers_with_one_inbox_are_two_consumers(tmp_path, stack, users):
    """A caller that names the inbox of another gets none of its leases."""
    cluster = Members(tmp_path, stack)
    await cluster.start("one", gateway=[users])
    ada = await cluster.client(f"{cluster.url}?caller=ada")
    await ada.mailbox_create(name="ada")
    await ada.mailbox_grant("ada", readers=["Bob"])
    await ada.send("ada", "once")
    raw = await nats.connect(cluster.url)
    stack.push_async_callback(raw.close)
    heard = await raw.subscribe("_INBOX.shared.*")
    for caller in ("ada", "bob"):
        await raw.publish(
            f"$mq9.as.{caller}.AI.MSG.FETCH.ada",
            b'{"group_name":"g","config":{"max_wait_ms":0}}',
            f"_INBOX.shared.{caller}",
        )
        reply = orjson.loads((await heard.next_msg(timeout=10)).data)
        assert len(reply["messages"]) == (1 if caller == "ada" else 0)


async def test_a_caller_that_is_removed_is_refused_at_once(tmp_path, stack, users):
    cluster = Members(tmp_path, stack)
    member = await cluster.start("one", gateway=[users])
    bob = await cluster.client(f"{cluster.url}?caller=bob")
    await bob.mailbox_create(name="bob")
    waiting = asyncio.create_task(bob.fetch("bob", group_name="g", max_wait_ms=30_000))
    await until(lambda: member.gateway.requests == 1)

    users.become(Users.from_file(write_users(tmp_path, USERS.partition("\n\n")[0])))
    await member.gateway.check_users()
    with pytest.raises(Unauthorized, match="caller: 'bob' is not a user"):
        await waiting
    assert member.gateway.requests == 0
    with pytest.raises(Unauthorized):
        await bob.query("bob")
    ada = await cluster.client(f"{cluster.url}?caller=ada")
    assert (await ada.identity()).agent == "Ada"


async def test_callers_may_be_added_to_a_gateway_without_any(tmp_path, stack, users):
    cluster = Members(tmp_path, stack)
    guard = Users.from_file(write_users(tmp_path, '[[users]]\nagent = "Ada"\ntoken = "secret"\n'))
    member = await cluster.start("one", gateway=[guard])
    guard.become(users)
    await member.gateway.check_users()
    bob = await cluster.client(f"{cluster.url}?caller=bob")
    assert (await bob.identity()).agent == "Bob"


async def test_a_fetch_through_an_import_is_warned_of_once(tmp_path, stack, users, caplog):
    cluster = Accounts(tmp_path, stack)
    await cluster.start("one", gateway=[users], reply_prefixes=("_R_.", "_INBOX."))
    ada = await cluster.person("ada")
    await ada.mailbox_create(name="ada")
    for _ in range(2):
        await ada.fetch("ada", group_name="g", max_wait_ms=0)
    assert sum("through an import" in one for one in caplog.messages) == 1


async def mq9_users(*arguments):
    """Call `mq9 users`; what it prints."""
    done = await asyncio.to_thread(CliRunner().invoke, app, ["users", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


async def test_the_command_line_adds_and_removes_callers_of_a_running_gateway(tmp_path, stack):
    file = tmp_path / "users.toml"
    await mq9_users("add", file, "--agent", "Ada", "--caller", "ada")
    cluster = Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", 1))
    await cluster.gateway("--users", str(file))

    async def is_known(caller):
        try:
            return (await (await cluster.client(f"{cluster.url}?caller={caller}")).identity()).agent
        except Unauthorized:
            return None

    assert (await is_known("ada"), await is_known("bob")) == ("Ada", None)
    await mq9_users("add", file, "--agent", "Bob", "--caller", "bob")
    await mq9_users("remove", file, "--caller", "ada")
    await until(lambda: is_known("bob"))
    assert (await is_known("ada"), await is_known("bob")) == (None, "Bob")
    listed = (await mq9_users("list", file)).splitlines()
    assert listed[1].split() == ["Bob", "agent", "NATS,", "as", "bob", "everywhere"]


async def test_without_callers_nats_can_still_limit_a_client_by_subject(tmp_path, stack):
    [config] = BLOCK.findall(PAGE.read_text("utf-8"))
    anonymous = config[
        config.index("      {\n        user: ada") : config.index("      {\n        user: bob")
    ]
    cluster = Guarded(tmp_path, stack, config.replace(anonymous, LIMITED))
    await cluster.start("one")
    ada, bob = await cluster.person("ada"), await cluster.person("bob")
    for name in ("ada", "bob"):
        await bob.mailbox_create(name=name)
    await bob.send("ada", "for her")
    [message] = await ada.fetch("ada", group_name="g")
    await ada.ack("ada", "g", message.msg_id)
    await ada.send("bob", "for him")
    assert (await ada.mailbox_status("ada")).stored == 1
    for attempt in (
        ada.query("bob"),
        ada.fetch("bob", group_name="g"),
        ada.mailbox_drop("bob"),
        ada.mailbox_create(name="hers"),
    ):
        with pytest.raises((Forbidden, OutcomeUnknown), match=r"(?i)permissions violation"):
            await attempt


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('caller = "a.b"', "user 1 in .*: caller: 'a.b' is not the name of a caller; use 1 to 128"),
        ('caller = ""', "caller: '' is not the name of a caller"),
        ("caller = 1", "caller: 1 is not the name of a caller"),
        ('caller = "a"\ntoken = "b"', "needs one of these: a token, or a user and a password, or"),
        ('caller = "a"\n[[users]]\ncaller = "a"', "has the caller 'a' twice"),
    ],
)
def test_a_caller_that_cannot_be_is_refused(tmp_path, table, told):
    with pytest.raises(InvalidRequest, match=told):
        Users.from_file(write_users(tmp_path, f"[[users]]\n{table}\n"))
