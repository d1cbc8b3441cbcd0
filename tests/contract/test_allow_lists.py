"""An agent with an allow-list sends to the mailboxes that it names, and to those it takes from."""

import pytest

from mq9 import Forbidden, InvalidRequest, MailboxNotFound, Mq9Client

from .reading import bodies

AGENTS = {"ada": None, "clerk": ["ada", "team.*"], "mute": []}


@pytest.fixture
async def clerk(way):
    return await way.client(agent="clerk")


@pytest.fixture(autouse=True)
async def mailboxes(ada):
    for name in ("ada", "team", "team.a", "team.b.c", "ada.x"):
        await ada.mailbox_create(name=name)


async def test_it_sends_to_mailboxes_that_match(clerk):
    for address in ("ada", "team.a", "team.b.c"):
        assert await clerk.send(address, "x") == 0


async def test_it_sends_nowhere_else(way, clerk):
    mute = await way.client(agent="mute")
    before = way.state()
    for client, addresses in ((clerk, ("team", "ada.x")), (mute, ("ada", "team.a"))):
        for address in addresses:
            for options in ({}, {"delay": 5}, {"id": "i"}, {"key": "k"}):
                with pytest.raises(Forbidden, match=f"you may not send to {address};"):
                    await client.send(address, "x", **options)
    assert way.state() == before


async def test_it_moves_messages_nowhere_else(way, ada, clerk):
    await clerk.mailbox_create(name="clerk")
    await ada.send("clerk", "x")
    [message] = await clerk.fetch("clerk", group_name="g", deliver="earliest")
    before = way.state()

    with pytest.raises(Forbidden, match="allow_send"):
        await message.move("team")

    assert way.state() == before
    await message.move("team.a")
    assert bodies(await ada.query("team.a")) == ["x"]


async def test_it_sends_to_mailboxes_that_it_may_take_from(ada, clerk):
    await clerk.mailbox_create(name="clerk.dead")
    assert await clerk.send("clerk.dead", "x") == 0
    await ada.mailbox_grant("team", viewers=["clerk"], senders=["clerk"])
    with pytest.raises(Forbidden):
        await clerk.send("team", "x")
    await ada.mailbox_grant("team", ["clerk"])
    assert await clerk.send("team", "x") == 0


async def test_it_obeys_the_policy_of_the_mailbox_besides(ada, clerk):
    await ada.mailbox_grant("team.a", ["clerk"], send_policy="creator")
    with pytest.raises(Forbidden, match="only from its creator"):
        await clerk.send("team.a", "x")


async def test_what_is_not_there_is_not_found(clerk):
    with pytest.raises(MailboxNotFound):
        await clerk.send("nowhere", "x")


async def test_others_and_operators_send_everywhere(way, ada):
    operator = await way.client()
    for client in (ada, operator):
        await client.send("team", "x")


async def test_a_client_in_process_is_given_the_lists(tmp_path):
    def open_as(agent):
        return Mq9Client(f"sqlite:///{tmp_path}/a.db", agent=agent, agents=AGENTS)

    async with open_as("ada") as ada, open_as("clerk") as clerk:
        for name in ("ada", "team"):
            await ada.mailbox_create(name=name)
        await clerk.send("ada", "x")
        with pytest.raises(Forbidden, match="allow_send"):
            await clerk.send("team", "x")


def test_a_list_that_makes_no_sense_is_refused(tmp_path):
    for patterns in ("ada", ["Ada"], [3], [""]):
        with pytest.raises(InvalidRequest, match="allow_send"):
            Mq9Client(f"sqlite:///{tmp_path}/a.db", agent="ada", agents={"ada": patterns})
