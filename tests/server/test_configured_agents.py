"""A server that is started with users, on a file from before."""

import logging

import pytest
from hosted import url_for
from users_file import write_users

from mq9 import Forbidden, InvalidRequest, Mq9Client
from mq9.cli.serve import running
from mq9.server.settings import ServerSettings
from mq9.server.users import Users

USERS = """
[[users]]
agent = "Ada"
user = "ada"
password = "lovelace"

[[users]]
agent = "bob"
user = "bob"
password = "builder"

[[users]]
user = "operator"
password = "of all"
"""


@pytest.fixture
def settings(tmp_path):
    users = write_users(tmp_path, USERS)
    return ServerSettings(data=tmp_path / "mq9.db", users=users, port=0, admin=False)


@pytest.fixture
async def older(settings):
    """What was made on the file while there were no users."""
    async with Mq9Client(f"sqlite:///{settings.data}") as client:
        for name in ("ada", "a", "b", "c", "d", "e", "f"):
            await client.mailbox_create(name=name)
        await client.send("ada", "from before")
        await client.mailbox_grant("f", ["bob"])
        await client.agent_register({"name": "Ada", "payload": "her own words"})
        await client.agent_register({"name": "bob", "mailbox": "a"})
        await client.agent_register({"name": "ADA", "mailbox": "a"})
        await client.agent_register({"name": "helper", "mailbox": "ada"})
        await client.agent_register({"name": "other", "mailbox": "b"})
    async with Mq9Client(f"sqlite:///{settings.data}", agent="eve") as eve:
        await eve.mailbox_create(name="bob")
        await eve.mailbox_grant("bob", ["eve", "Ada"])
        await eve.send("bob", "x")


@pytest.mark.usefixtures("older")
async def test_the_start_says_what_it_closed_and_whose_names_it_restored(settings, caplog):
    caplog.set_level(logging.INFO, "mq9")
    async with running(settings):
        said = [record.getMessage() for record in caplog.records]

    assert (
        "5 mailboxes without a creator are closed to agents until an operator grants them: "
        "a, b, c, d, e"
    ) in said
    assert "mailboxes that now belong to the agents of their names: ada, bob" in said
    [removed] = [line for line in said if line.startswith("registrations removed")]
    assert removed.endswith(": bob, ADA, helper")

    caplog.clear()
    async with running(settings):
        told = " ".join(record.getMessage() for record in caplog.records)
    assert "now belong" not in told
    assert "removed" not in told


@pytest.mark.usefixtures("older")
async def test_agents_have_their_own_and_operators_have_the_rest(settings):
    async with (
        running(settings) as serving,
        Mq9Client(url_for(serving.server, "ada:lovelace")) as ada,
        Mq9Client(url_for(serving.server, "bob:builder")) as bob,
        Mq9Client(url_for(serving.server, "operator:of%20all")) as operator,
    ):
        assert [message.text for message in await ada.query("ada")] == ["from before"]
        assert len(await bob.query("bob")) == 1
        with pytest.raises(Forbidden):
            await ada.query("bob")
        with pytest.raises(Forbidden):
            await ada.query("a")
        assert await operator.query("a") == []
        await bob.query("f")
        names = {one.match.name: one.match.mailbox for one in await ada.agent_discover()}
        assert names == {"Ada": "ada", "other": "b"}


async def test_a_start_with_nothing_to_close_says_nothing(settings, caplog):
    caplog.set_level(logging.INFO, "mq9")
    async with running(settings):
        pass
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_server_without_users_says_that_it_limits_no_senders(settings, caplog):
    caplog.set_level(logging.INFO, "mq9")
    async with Mq9Client(f"sqlite:///{settings.data}", agent="Ada") as ada:
        await ada.mailbox_create(name="notes", send_policy="creator")
        await ada.mailbox_create(name="open")
    said = (
        "1 mailboxes limit their senders, which is not enforced: without --users the server "
        "cannot tell who sends"
    )

    for users, expected in ((None, [said]), (settings.users, [])):
        caplog.clear()
        async with running(settings.model_copy(update={"users": users})):
            told = [record.getMessage() for record in caplog.records]
        assert [line for line in told if "limit their senders" in line] == expected


def test_two_agents_with_one_mailbox_are_refused(tmp_path):
    path = write_users(
        tmp_path,
        '[[users]]\nagent = "Ada L."\ntoken = "a"\n[[users]]\nagent = "ada-l"\ntoken = "b"\n',
    )

    with pytest.raises(InvalidRequest, match=r"'Ada L\.' and 'ada-l' both have the mailbox ada\.l"):
        Users.from_file(path)

    path.write_text(
        '[[users]]\nagent = "Ada"\ntoken = "a"\n'
        '[[users]]\nagent = "Ada"\nuser = "ada"\npassword = "b"\n'
    )
    assert Users.from_file(path).reserved.names == ("Ada",)


def test_agents_are_configured_in_process_only(tmp_path):
    with pytest.raises(InvalidRequest, match="agents: they are for a broker inside this process"):
        Mq9Client("nats://127.0.0.1", agents=["Ada"])
    with pytest.raises(InvalidRequest, match="both have the mailbox ada"):
        Mq9Client(f"sqlite:///{tmp_path}/a.db", agents=["Ada", "ada"])
    with pytest.raises(InvalidRequest, match="agents: ''"):
        Mq9Client(f"sqlite:///{tmp_path}/a.db", agents=[""])
