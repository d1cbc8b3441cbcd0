"""What an authenticated agent may do with mailboxes and registrations of others."""

import pytest

from mq9 import Forbidden

from .reading import bodies, looks, refused, takes


@pytest.fixture
async def box(ada):
    """A mailbox that Ada made."""
    return await ada.mailbox_create(name="adas.box")


async def test_the_broker_says_whom_it_takes_a_connection_for(way, ada, client):
    assert await ada.whoami() == "ada"
    assert await client.whoami() is None
    assert await way.ask("AGENT.WHOAMI", b"any payload at all", agent="bob") == {
        "error": "",
        "agent": "bob",
    }


async def test_the_broker_itself_says_who_sent_a_message(ada, bob, box):
    await bob.send(box, "x", sender="eve")

    [message] = await ada.fetch(box, group_name="g", deliver="earliest")
    assert (message.sender, message.sender_verified) == ("bob", True)


async def test_without_authentication_a_sender_is_a_claim(client, ada, box):
    await client.send(box, "x", sender="ada")

    [message] = await ada.query(box)
    assert (message.sender, message.sender_verified) == ("ada", False)


async def test_a_claimed_sender_does_not_share_ids_with_the_verified_one_by_accident(ada, bob, box):
    assert await bob.send(box, "x", id="1", sender="ada") == 0
    assert await ada.send(box, "y", id="1") == 1
    assert await bob.send(box, "x", id="1") == 0


async def test_the_creator_may_do_everything(ada, box):
    await ada.mailbox_create(name="another")
    await ada.send(box, "x")
    await ada.mailbox_create(name=box, renew=True)
    with ada.watch_unread(box, "g") as watch:
        await ada.mailbox_list()
    assert watch.unread.total == 1
    for call in (*looks(ada, box), *takes(ada, box)):
        await call


async def test_others_may_send_and_nothing_else(way, ada, bob, box):
    await bob.send(box, "x")
    await ada.fetch(box, group_name="g", deliver="earliest")
    before = way.state()

    calls = (*looks(bob, box), *takes(bob, box), bob.mailbox_create(name=box, renew=True))
    await refused(*calls, match=r"adas\.box")
    with bob.watch_unread(box, "g") as watch:
        await refused(bob.mailbox_list())
    assert watch.unread is None
    assert way.state() == before


async def test_a_refusal_does_not_leak_what_is_inside(ada, bob, box):
    await ada.send(box, "the secret")

    with pytest.raises(Forbidden) as caught:
        await bob.query(box)
    assert "secret" not in str(caught.value)
    assert "ada" not in str(caught.value).replace("adas.box", "")


async def test_the_broker_tells_an_agent_which_mailboxes_are_its_own(client, ada, bob, box):
    await ada.mailbox_grant(box, ["bob"])
    await client.mailbox_create(name="open")

    owned = [(await one.mailbox_status(box)).own for one in (ada, bob, client)]
    assert owned == [True, False, None]
    assert (await ada.mailbox_status("open")).own is False


async def test_without_authentication_knowing_the_address_is_enough(client, ada, box):
    await ada.send(box, "x")

    assert bodies(await client.query(box)) == ["x"]


async def test_a_mailbox_made_anew_belongs_to_its_new_creator(way, ada, bob):
    await ada.mailbox_create(name="brief", ttl=10)
    await way.clock.advance(10)
    await bob.mailbox_create(name="brief")

    await bob.query("brief")
    with pytest.raises(Forbidden):
        await ada.query("brief")


async def test_a_registration_is_replaced_and_removed_only_by_its_agent(ada, bob, client):
    await ada.agent_register({"name": "Ada", "mailbox": "adas.box", "payload": "true"})

    for other in (bob, client):
        await refused(
            other.agent_register({"name": "Ada", "payload": "false"}),
            other.agent_unregister(name="Ada"),
            other.agent_unregister("adas.box"),
            other.agent_report({"name": "Ada", "status": "gone"}),
        )
    [agent] = await bob.agent_discover()
    assert (agent["payload"], agent.match.status) == ("true", None)
    await ada.agent_report({"name": "Ada", "status": "busy"})
    await ada.agent_register({"name": "Ada"})
    await ada.agent_unregister(name="Ada")


async def test_what_nobody_authenticated_registered_anybody_may_replace(client, ada):
    await client.agent_register({"name": "open"})
    await ada.agent_register({"name": "open"})

    with pytest.raises(Forbidden):
        await client.agent_register({"name": "open"})
