"""Gateways and clients that log in with NKeys and JWTs, and users who expire or are revoked."""

import json
import os
import signal
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import nkeys
import pytest
from nats_keys import OF_ACCOUNT, UNLIMITED, Key, creds
from nats_server import NatsServer
from waiting import until

from mq9 import Mq9Client, Mq9Error
from mq9.cluster.connection import connect
from mq9.errors import Forbidden, InvalidRequest, Unauthorized
from mq9.server.users import User, Users

from .clusters import Cluster, Members
from .test_permissions import of_the_gateway

pytestmark = pytest.mark.programs

OPERATOR = Key(nkeys.PREFIX_BYTE_OPERATOR, 1)
ACCOUNT = Key(nkeys.PREFIX_BYTE_ACCOUNT, 2)
SYSTEM = Key(nkeys.PREFIX_BYTE_ACCOUNT, 9)
GATEWAY, CLIENT = (Key(nkeys.PREFIX_BYTE_USER, number) for number in (3, 4))
TRUSTED = OPERATOR.jwt("operator", OPERATOR, type="operator")  # a server cannot reload another one
STORAGE = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
OF_A_CLIENT = (["$mq9.AI.>"], ["_INBOX.ada.>"])
PREFIX = "inbox_prefix=_INBOX.ada"


def operator_mode(store, **claims):
    """The configuration of a server whose users have JWTs; with further claims of the account."""
    limits = OF_ACCOUNT | STORAGE
    account = OPERATOR.jwt("MAIL", ACCOUNT, type="account", limits=limits, **claims)
    system = OPERATOR.jwt("SYS", SYSTEM, type="account", limits=OF_ACCOUNT)
    return (
        f"operator: {TRUSTED}\n"
        f"system_account: {SYSTEM.public}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {ACCOUNT.public}: {account}, {SYSTEM.public}: {system} }}\n"
        f'jetstream {{ store_dir: "{store}" }}\n'
    )


def with_nkeys(store):
    """The configuration of a server whose users have NKeys."""
    users = [
        {"nkey": key.public, "permissions": {"publish": publish, "subscribe": subscribe}}
        for key, (publish, subscribe) in ((GATEWAY, of_the_gateway()), (CLIENT, OF_A_CLIENT))
    ]
    accounts = json.dumps({"MAIL": {"jetstream": "enabled", "users": users}})
    return f'accounts: {accounts}\njetstream {{ store_dir: "{store}" }}\n'


class Signed(Members):
    """Gateways and clients with files of credentials.

    Args:
        directory: Where they may write.
        stack: Ends them.
        config: Of the server.
        option: Of the URLs, `creds` or `nkey`.
    """

    def __init__(self, directory, stack, config, option):
        server = NatsServer(directory / "nats", config=config)
        Cluster.__init__(self, directory, stack, server)
        self._stacks = {}
        self._option = option

    def issue(self, key, permissions=OF_A_CLIENT, *, expires=None):
        """Write the file of a user, and return its path."""
        directory = self.directory / key.public
        directory.mkdir(exist_ok=True)
        if self._option == "nkey":
            file = directory / "user.nk"
            file.write_text(key.seed)
            return file
        publish, subscribe = ({"allow": list(subjects)} for subjects in permissions)
        claims = {"type": "user", "pub": publish, "sub": subscribe, **UNLIMITED}
        return creds(directory, key, ACCOUNT.jwt("user", key, expires=expires, **claims))

    def with_file(self, file, *options):
        return f"{self.servers.url}?{'&'.join([f'{self._option}={file}', *options])}"

    @property
    def url(self):
        return self.with_file(self.issue(GATEWAY, of_the_gateway()))


@pytest.fixture
async def start(tmp_path):
    """Start a server whose users have files of a kind."""
    async with AsyncExitStack() as stack:
        configs = {"creds": operator_mode, "nkey": with_nkeys}

        def one(option="creds"):
            return Signed(tmp_path, stack, configs[option](tmp_path / "store"), option)

        yield one


@pytest.mark.parametrize("option", ["creds", "nkey"])
async def test_mail_goes_through_gateways_that_log_in_with_keys(start, option):
    signed = start(option)
    for name in ("one", "two"):
        await signed.start(name)
    client = await signed.client(signed.with_file(signed.issue(CLIENT), PREFIX))
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "hello")
    [message] = await client.fetch("inbox", group_name="g")
    assert message.text == "hello"
    await client.ack("inbox", "g", message.msg_id)
    assert await client.fetch("inbox", group_name="g", max_wait_ms=0) == []

    signed.servers.kill()
    signed.servers.start()
    await client.send("inbox", "after a restart")


async def test_a_template_of_a_signing_key_makes_each_user_a_caller(tmp_path):
    """The account allows each user the subjects of its own name, whatever its JWT says else."""
    scope = Key(nkeys.PREFIX_BYTE_ACCOUNT, 7)
    template = {
        "pub": {"allow": ["$mq9.as.{{name()}}.AI.>"]},
        "sub": {"allow": ["_INBOX.{{name()}}.>"]},
        **UNLIMITED,
    }
    scoped = {"kind": "user_scope", "key": scope.public, "role": "agent", "template": template}
    config = operator_mode(tmp_path / "store", signing_keys=[scoped])
    users = Users([User("", agent="Ada", caller="ada"), User("", agent="Bob", caller="bob")])
    async with AsyncExitStack() as stack:
        signed = Signed(tmp_path, stack, config, "creds")
        await signed.start("one", gateway=[users])

        async def client(number, name, caller):
            key = Key(nkeys.PREFIX_BYTE_USER, number)
            directory = tmp_path / f"{name}-{caller}"
            directory.mkdir()
            jwt = scope.jwt(name, key, type="user", issuer_account=ACCOUNT.public)
            file = creds(directory, key, jwt)
            options = (f"inbox_prefix=_INBOX.{name}", f"caller={caller}")
            return await signed.client(signed.with_file(file, *options))

        ada, bob = await client(11, "ada", "ada"), await client(12, "bob", "bob")
        assert [(await one.identity()).agent for one in (ada, bob)] == ["Ada", "Bob"]
        await ada.mailbox_create(name="ada")
        await bob.send("ada", "hello")
        [message] = await ada.fetch("ada", group_name="g")
        assert (message.sender, message.sender_verified) == ("Bob", True)
        with pytest.raises(Forbidden):
            await bob.query("ada")
        impostor = await client(12, "bob", "ada")
        with pytest.raises(Forbidden, match="permissions violation"):
            await impostor.query("ada")


async def why_refused(call):
    """Why a client or a gateway is refused, in words that show no secret."""
    with pytest.raises(Unauthorized) as caught:
        await call
    assert CLIENT.seed not in str(caught.value)
    return str(caught.value)


async def until_refused(client):
    """Wait until a client is no longer let in; with what words."""
    words = []

    async def is_refused():
        try:
            await client.mailbox_status("inbox")
        except Unauthorized as error:
            words.append(str(error))
        except Mq9Error:
            """The connection was cut just now."""
        return words

    await until(is_refused)
    return words[0]


async def test_an_expired_user_is_refused_until_the_file_is_renewed(start):
    signed = start()
    await signed.start("one")
    expires = int(time.time()) + 4
    file = signed.issue(CLIENT, expires=expires)
    client = await signed.client(signed.with_file(file, PREFIX), reconnect_attempts=0)
    await client.mailbox_create(name="inbox")

    told = (
        f"refused the JWT of {file}, valid until {datetime.fromtimestamp(expires, UTC):%F %T} UTC"
    )
    assert told in await until_refused(client)
    await until(lambda: time.time() > expires + 1)  # until then a server may take it
    assert told in await why_refused(Mq9Client.connect(signed.with_file(file)))
    assert told in await why_refused(connect(signed.with_file(file), "gateway", "_INBOX.x", 5))

    signed.issue(CLIENT)
    assert (await client.mailbox_status("inbox")).stored == 0


async def test_a_gateway_whose_user_expires_returns_with_a_renewed_file(start, caplog):
    signed = start()
    expires = int(time.time()) + 5
    file = signed.issue(GATEWAY, of_the_gateway(), expires=expires)
    one = await signed.start("one", url=signed.with_file(file))
    client = await signed.client(signed.with_file(signed.issue(CLIENT), PREFIX))
    await client.mailbox_create(name="inbox")
    await until(lambda: f"refused the JWT of {file}, valid until" in caplog.text)
    await until(lambda: time.time() > expires + 1)  # until then a server may take it
    with pytest.raises(Unauthorized, match="valid until"):
        await signed.start("two", url=signed.with_file(file))

    signed.issue(GATEWAY, of_the_gateway())
    await until(lambda: one.client.is_connected and one.gateway.is_serving)
    await client.send("inbox", "hello")


async def test_a_gateway_ends_when_its_connection_is_given_up(start):
    signed = start()
    one = await signed.start("one")
    await one.client.close()
    await until(one.gateway.is_over.is_set)
    assert "was given up: no reason; start the gateway again" in str(one.backend.failure)


async def test_a_revoked_user_is_refused(start):
    signed = start()
    await signed.start("one")
    file = signed.issue(CLIENT)
    client = await signed.client(signed.with_file(file, PREFIX), reconnect_attempts=0)
    await client.mailbox_create(name="inbox")

    revocations = {CLIENT.public: int(time.time()) + 1}
    config = operator_mode(signed.directory / "store", revocations=revocations)
    (signed.directory / "nats" / "server.conf").write_text(config)
    os.kill(signed.servers.pid, signal.SIGHUP)
    told = f"refused the JWT of {file}, valid without end: it has expired, is revoked, or"
    assert told in await until_refused(client)


async def test_a_file_that_cannot_be_used_is_named(start):
    signed = start()
    for option in ("creds", "nkey"):
        with pytest.raises(InvalidRequest, match=f"{option}: /nowhere/x cannot be used"):
            await connect(f"{signed.servers.url}?{option}=/nowhere/x", "gateway", "_INBOX.x", 5)
