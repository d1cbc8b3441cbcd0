"""A client that says which agent its credentials must stand for."""

import pytest

from mq9 import Unauthorized
from mq9.server.users import User, Users


@pytest.fixture
async def guarded(open_hosted):
    users = [User("a", agent="Ada"), User("b", agent="bob"), User("o")]
    return await open_hosted(guard=Users(users))


async def test_the_right_credentials_connect_as_that_agent(guarded):
    ada = await guarded.client("a@", agent="Ada")
    assert await ada.whoami() == "Ada"


@pytest.mark.parametrize(
    ("credentials", "told"),
    [("b@", "for the agent 'bob', not for 'Ada'"), ("o@", "for no agent, not for 'Ada'")],
)
async def test_those_of_anybody_else_are_refused_and_nothing_stays_open(guarded, credentials, told):
    with pytest.raises(Unauthorized, match=told):
        await guarded.client(credentials, agent="Ada")
    assert guarded.server.connections == 0


async def test_a_server_that_knows_no_agents_is_refused(hosted):
    with pytest.raises(Unauthorized, match="for no agent, not for 'Ada'"):
        await hosted.client(agent="Ada")


async def test_the_check_is_made_again_when_a_connection_is(guarded):
    ada = await guarded.client("a@", agent="Ada", reconnect_delay=0)
    await ada.mailbox_create(name="ada")
    await guarded.restart(guard=Users([User("a", agent="bob")]))

    with pytest.raises(Unauthorized, match="for the agent 'bob'"):
        await ada.send("ada", "x")
