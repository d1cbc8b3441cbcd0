"""Users and certificates that change while the server runs."""

import asyncio
import signal
import ssl
import sys
from contextlib import suppress

import httpx
import pytest
import trustme
from serving import Serving
from typer.testing import CliRunner
from users_file import write_users
from waiting import until

from mq9 import Mq9Client, Unauthorized
from mq9.cli.app import app
from mq9.errors import Forbidden, Mq9Error
from mq9.server.users import User, Users

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform == "win32", reason="it has not these signals"),
]
IN_A_SESSION = ("setsid",)  # without a terminal, wherever the tests run


async def users(*arguments):
    """Call `mq9 users`; what it prints."""
    given = ["users", *map(str, arguments)]
    done = await asyncio.to_thread(CliRunner().invoke, app, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


@pytest.fixture
async def served(tmp_path):
    """A server with two agents, its users file, and their tokens."""
    file = tmp_path / "users.toml"
    tokens = {name: await users("add", file, "--agent", name) for name in ("Ada", "Bob")}
    options = ("--memory", "--users", str(file))
    async with Serving(tmp_path, *options, prefix=IN_A_SESSION) as server:
        yield server, file, tokens


def client_of(server, token):
    return Mq9Client(server.url.replace("://", f"://{token}@"), reconnect_attempts=1)


async def is_let_in(server, token):
    try:
        async with client_of(server, token):
            return True
    except Unauthorized:
        return False


async def test_a_user_who_is_removed_is_gone_at_once_and_others_stay(served):
    server, file, tokens = served
    async with client_of(server, tokens["Ada"]) as ada, client_of(server, tokens["Bob"]) as bob:
        await ada.mailbox_create(name="private")
        await bob.mailbox_create(name="bob")
        await users("remove", file, "--agent", "Ada")
        await until(lambda: "users reloaded" in server.told)

        with pytest.raises(Mq9Error):
            await ada.query("private")
        assert not await is_let_in(server, tokens["Ada"])
        await bob.send("bob", "still here")
        with pytest.raises(Forbidden):  # the mailbox of the agent that is gone stays closed
            await bob.query("private")
    assert "User Authentication Revoked" in server.told


async def test_the_messages_that_a_removed_agent_holds_come_back_at_once(served):
    """Those of its earlier connections too, and what it has acked does not."""
    server, file, tokens = served
    long = {"group_name": "g", "num_msgs": 2, "lease_ms": 3_600_000}
    async with client_of(server, tokens["Bob"]) as bob:
        await bob.mailbox_create(name="work")
        await bob.mailbox_grant("work", readers=["Ada"])
        for number in range(4):
            await bob.send("work", str(number))
        async with client_of(server, tokens["Ada"]) as ada:
            await ada.fetch("work", **long)
        async with client_of(server, tokens["Ada"]) as ada:
            [acked, _] = await ada.fetch("work", **long, consumer="second")
            await ada.ack("work", "g", acked.msg_id, individual=True, consumer="second")
            assert await bob.fetch("work", group_name="g", max_wait_ms=0) == []
            waiting = asyncio.create_task(
                bob.fetch("work", group_name="g", num_msgs=9, min_msgs=3, max_wait_ms=60_000)
            )
            await users("remove", file, "--agent", "Ada")
            back = await waiting
        assert [message.text for message in back] == ["0", "1", "3"]
        status = await bob.mailbox_status("work", group_name="g", msg_id=back[0].msg_id)
        assert status.message.groups[0].deliveries == 2


async def test_a_new_user_may_connect_and_an_old_token_beside_a_new_one(served):
    server, file, tokens = served
    token = await users("add", file, "--agent", "Carl")
    further = await users("add", file, "--agent", "Ada")
    server.stop(signal.SIGHUP)
    await until(lambda: is_let_in(server, token))
    async with client_of(server, token) as carl:
        assert await carl.whoami() == "Carl"
    assert await is_let_in(server, further)
    await users("remove", file, "--token", tokens["Ada"])

    async def is_refused():
        return not await is_let_in(server, tokens["Ada"])

    await until(is_refused)
    assert await is_let_in(server, further)


async def test_a_file_that_cannot_be_used_changes_nothing(served):
    server, file, tokens = served
    async with client_of(server, tokens["Ada"]) as ada:
        write_users(file.parent, "[[users]\n")
        await until(lambda: "the users were not reloaded, and stay as they were" in server.told)
        assert await ada.whoami() == "Ada"
    assert await is_let_in(server, tokens["Bob"])


async def test_a_password_stays_known_unless_its_user_changes():
    one = User("secret", name="ada", agent="Ada")
    before, after = Users([one]), Users([one, User("other", agent="Bob")])
    known = before._passwords["ada"]  # noqa: SLF001
    before.become(after)
    assert before._passwords["ada"] is known  # noqa: SLF001
    assert before.knows(one.admitted)
    before.become(Users([User("other", agent="Bob")]))
    assert not before.knows(one.admitted)


async def test_a_new_certificate_is_for_new_connections(tmp_path):
    first, second = trustme.CA(), trustme.CA()
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"

    def issue(authority):
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(paths[1])
        certificate.cert_chain_pems[0].write_to_path(paths[0])

    async def is_trusted(authority):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with suppress(ssl.SSLError):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await reader.readline()  # INFO comes before the encryption
            await writer.start_tls(context)
            writer.close()
            return True
        return False

    issue(first)
    options = ("--memory", "--tls-cert", str(paths[0]), "--tls-key", str(paths[1]))
    async with Serving(tmp_path, *options, prefix=IN_A_SESSION) as server:
        assert await is_trusted(first)
        issue(second)
        server.stop(signal.SIGHUP)
        await until(lambda: is_trusted(second))
        assert not await is_trusted(first)
        paths[0].write_text("no certificate")
        await until(lambda: "the certificate was not reloaded, and stays" in server.told)
        assert await is_trusted(second)


async def test_mcp_and_the_desk_know_a_removed_user_no_more(tmp_path):
    file = tmp_path / "users.toml"
    token = await users("add", file, "--agent", "Ada")
    await users("add", file, "--agent", "Bob")
    options = ("--memory", "--users", str(file), "--mcp", "--desk")
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    async with Serving(tmp_path, *options, admin=True, prefix=IN_A_SESSION) as server:
        base = server.metrics_url.removesuffix("/metrics")
        accept = {"Accept": "application/json, text/event-stream"}
        async with httpx.AsyncClient(base_url=base, headers=accept) as client:

            async def call():
                bearer = {"Authorization": f"Bearer {token}"}
                return (await client.post("/mcp", json=hello, headers=bearer)).status_code

            async def desk():
                return (await client.get("/desk/mailboxes")).status_code

            assert await call() == 200
            entering = {"Origin": base, "Sec-Fetch-Site": "same-origin"}
            login = await client.post(
                "/desk/login", data={"user": "", "secret": token}, headers=entering
            )
            assert login.status_code == 303, login.text
            assert await desk() == 200
            await users("remove", file, "--agent", "Ada")
            await until(lambda: "users reloaded" in server.told)
            assert await call() == 401
            assert await desk() in {303, 401}
