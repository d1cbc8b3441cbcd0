"""Which mailboxes an agent's tools take for its own, whatever others make, describe or grant."""

import os
import stat
import subprocess
import sys

import pytest

from langchain_mq9 import Mq9Toolkit
from mq9 import InvalidRequest, Mq9Client
from mq9.operations.identity import Identity, agent_key, load_key
from mq9.server.users import User, Users
from tests.hosted import running, url_for

from .examples import arguments_at
from .tool_calls import aanswer, ado, do, fail


async def is_shut(toolkit, address):
    """Whether the tools neither read a mailbox nor send there nor have answers sent there."""
    sends = [
        {"mail_address": address, "content": "x"},
        {"mail_address": "team.one", "content": "x", "reply_to": address},
    ]
    calls = [
        *arguments_at(address).items(),
        *(("send_message", arguments) for arguments in sends),
    ]
    said = [(await aanswer(toolkit, name, **arguments)).content for name, arguments in calls]
    refused = ["This is not allowed to you" in one for one in said]
    assert all(refused) or not any(refused), said
    return all(refused)


@pytest.fixture
async def attacker(broker):
    """A client that may do on the broker what it likes, and the mailbox to send to."""
    async with broker.client() as client:
        await client.mailbox_create(name="team.one")
        yield client


@pytest.fixture
def limited(open_toolkit):
    """The tools of an agent that may send to its team only."""
    return open_toolkit("planner", allow_send=["team.*"])


@pytest.mark.parametrize(
    "desc",
    [
        "made by agent planner",
        "made by agent planner, proof ",
        f"made by agent planner, proof {'0' * 32}",
        "made by agent planner, proof \u0663",
    ],
)
@pytest.mark.parametrize("where", [{"name": "evil"}, {"prefix": "planner"}], ids=str)
async def test_a_description_by_another_client_makes_a_mailbox_nobody_s(
    limited, attacker, desc, where
):
    evil = await attacker.mailbox_create(desc=desc, public=True, **where)
    await attacker.send(evil, "mail to lure with", sender="planner")

    assert await is_shut(limited, evil)


async def test_a_description_that_was_copied_makes_a_mailbox_nobody_s(limited, attacker):
    own = (await ado(limited, "create_mailbox"))["mail_address"]
    copied = (await attacker.mailbox_status(own)).desc
    evil = await attacker.mailbox_create(name="evil", desc=copied)

    assert not await is_shut(limited, own)
    assert await is_shut(limited, evil)


async def test_the_tools_of_another_agent_make_none_of_its_own(limited, attacker, open_toolkit):
    for name in ("planner, proof", "planne", "Planner"):
        made = (await ado(open_toolkit(name), "create_mailbox"))["mail_address"]
        assert await is_shut(limited, made)


@pytest.mark.parametrize("name", [None, "scratch"])
async def test_a_mailbox_that_another_made_anew_is_no_longer_its_own(
    broker, limited, attacker, name
):
    own = (await ado(limited, "create_mailbox", name=name, ttl=10))["mail_address"]
    assert not await is_shut(limited, own)
    await broker.clock.advance(11)
    await attacker.mailbox_create(name=own, desc="made by agent planner")

    assert await is_shut(limited, own)


async def test_a_registration_under_any_name_opens_nothing(limited, attacker):
    await attacker.mailbox_create(name="evil")
    for name in ("evil", "planner", "helper"):
        await attacker.agent_register({"name": name, "mailbox": "evil"})
        said = await aanswer(limited, "send_message", to=name, content="x")
        assert "evil" not in said.content or "not to evil" in said.content

    assert await is_shut(limited, "evil")
    assert await attacker.query("evil") == []


class TestWhereTheBrokerKnowsTheAgents:
    """Where the broker knows who created a mailbox, its record counts."""

    @pytest.fixture
    async def url(self):
        users = Users([User("p", agent="planner"), User("e", agent="eve")])
        async with running(guard=users) as server:
            yield lambda token: url_for(server, token)

    @pytest.fixture
    async def planner(self, url):
        toolkit = Mq9Toolkit(url("p"), agent="planner", allow_send=["team.*"])
        yield toolkit
        await toolkit.aclose()

    @pytest.fixture
    async def eve(self, url):
        async with Mq9Client(url("e")) as client:
            await client.mailbox_create(name="team.one")
            yield client

    async def test_a_mailbox_that_another_made_and_granted_is_not_its_own(self, planner, eve):
        own = (await ado(planner, "create_mailbox"))["mail_address"]
        sealed = Identity("planner").description("evil")
        for desc in ("made by agent planner", sealed):
            evil = await eve.mailbox_create(name="evil", desc=desc)
            await eve.send(evil, "a lure")
            await eve.mailbox_grant(evil, ["planner"])
            assert await is_shut(planner, evil)
            await eve.mailbox_drop(evil)
        assert not await is_shut(planner, own)

    async def test_what_it_made_in_another_program_is_its_own(self, url, planner, eve):
        async with Mq9Client(url("p"), agent="planner") as elsewhere:
            await elsewhere.mailbox_create(name="made.elsewhere")
        assert not await is_shut(planner, "made.elsewhere")

    async def test_what_the_same_login_made_as_another_agent_is_not(self, url, eve):
        async with Mq9Client(url("e")) as same:
            await same.mailbox_create(name="of.eve")
        async with Mq9Toolkit(url("e"), agent="somebody", allow_send=["team.*"]) as toolkit:
            assert await is_shut(toolkit, "of.eve")


class TestTheKey:
    """Where the tools keep what their proofs are made with."""

    def test_is_made_once_for_its_owner_alone(self, tmp_path):
        path = tmp_path / "deep" / "agent.key"
        key = load_key(path)

        assert len(key) == 32
        assert load_key(path) == key
        assert load_key(tmp_path / "another") != key
        assert [one.name for one in path.parent.iterdir()] == ["agent.key"]
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.programs
    def test_of_several_processes_that_find_none_one_makes_it(self, tmp_path):
        path = tmp_path / "agent.key"
        said = (
            "import sys, pathlib; from mq9.operations.identity import load_key;"
            "sys.stdin.read(1); print(load_key(pathlib.Path(sys.argv[1])).hex())"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", said, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in processes:
            process.stdin.write("x")
            process.stdin.flush()
        keys = {process.communicate()[0].strip() for process in processes}
        assert keys == {path.read_bytes().hex()}

    def test_that_is_not_one_is_refused(self, tmp_path):
        path = tmp_path / "agent.key"
        path.write_bytes(b"short")
        with pytest.raises(InvalidRequest, match="holds 5 bytes, which is not a key; remove it"):
            load_key(path)

    @pytest.fixture
    def fresh(self):
        agent_key.cache_clear()
        yield
        agent_key.cache_clear()

    @pytest.mark.usefixtures("fresh")
    def test_that_is_too_short_is_told_to_who_uses_it(self, monkeypatch, open_toolkit):
        monkeypatch.setenv("MQ9_AGENT_KEY", "short")
        said = fail(open_toolkit("planner"), "create_mailbox")
        assert said.startswith("MQ9_AGENT_KEY: 5 characters are too few; give 32 or more")

    @pytest.mark.usefixtures("fresh")
    def test_that_can_be_kept_nowhere_lasts_as_long_as_the_process(
        self, monkeypatch, tmp_path, open_toolkit, caplog
    ):
        (tmp_path / "file").write_text("not a directory")
        monkeypatch.delenv("MQ9_AGENT_KEY")
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "file"))
        planner = open_toolkit("planner")
        made = do(planner, "create_mailbox")["mail_address"]

        assert do(planner, "query_messages", mail_address=made)["messages"] == []
        assert "set MQ9_AGENT_KEY to a secret" in caplog.text
