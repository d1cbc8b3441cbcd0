"""What discovery shows after each event in an agent's life, however it is asked."""

import pytest

from mq9 import AgentNotFound

CARD = {"name": "Justitia", "mailbox": "law", "payload": "Reads contracts, warns of unfair clauses"}
ASKED = {
    "all": {},
    "text": {"text": "unfair contract"},
    "semantic": {"semantic": "is this rental agreement legal?", "min_score": 0},
}


@pytest.fixture(params=ASKED)
async def shown(request, client):
    """Return the agents that are shown, all others aside; one of another trade is always there."""
    await client.agent_register({"name": "Flora", "payload": "Looks after flowers and lawns"})

    async def show(name="Justitia"):
        found = await client.agent_discover(**ASKED[request.param])
        assert {agent.match.mode for agent in found} <= {request.param}
        return [agent for agent in found if agent.match.name == name]

    return show


@pytest.fixture
async def law(client):
    """The mailbox that the agent is reached at."""
    return await client.mailbox_create(name="law", ttl=100)


async def test_before_and_after_it_registered(way, client, shown):
    assert await shown() == []
    await client.agent_register(CARD)
    [agent] = await shown()
    assert dict(agent) == CARD
    assert agent.match.mailbox == "law"
    assert agent.match.last_seen == way.clock.now_ms() // 1000
    assert agent.match.status is None
    assert agent.match.backlog == 0, "its mailbox was made with it"


async def test_after_it_registered_anew(way, client, shown):
    await client.agent_register({**CARD, "payload": "Bakes bread and unfair contract rolls"})
    assert len(await shown()) == 1
    await client.agent_report({"name": "Justitia", "load": 1})
    await way.clock.advance(5)
    card = {**CARD, "mailbox": "court", "payload": "Judges whether a contract is legal or unfair"}
    await client.agent_register(card)
    [agent] = await shown()
    assert dict(agent) == card
    assert agent.match.mailbox == "court"
    assert agent.match.last_seen == way.clock.now_ms() // 1000
    assert agent.match.status is None


async def test_after_it_registered_anew_as_something_else(client, shown):
    await client.agent_register(CARD)
    assert len(await shown()) == 1
    await client.agent_register({"name": "Justitia", "payload": "Repairs bicycles"})
    for agent in await shown():
        assert agent["payload"] == "Repairs bicycles"


async def test_after_it_reported(way, client, shown):
    await client.agent_register(CARD)
    await way.clock.advance(60)
    await client.agent_report({"name": "Justitia", "load": 0.5})
    [agent] = await shown()
    assert agent.match.status == {"load": 0.5}
    assert agent.match.last_seen == way.clock.now_ms() // 1000
    assert dict(agent) == CARD


async def test_after_it_sent_and_was_sent_to(way, client, law, shown):
    await client.agent_register(CARD)
    [agent] = await shown()
    assert agent.match.backlog == 0
    await way.clock.advance(60)
    await client.send(law, "for you", sender="Flora")
    [agent] = await shown()
    assert agent.match.backlog == 1
    assert agent.match.last_seen == way.clock.now_ms() // 1000 - 60
    await client.send(law, "a note to self", sender="Justitia")
    [agent] = await shown()
    assert agent.match.backlog == 2
    assert agent.match.last_seen == way.clock.now_ms() // 1000


async def test_after_its_time_was_over(way, client, shown):
    await client.agent_register(CARD, ttl=10)
    await way.clock.advance(9)
    assert len(await shown()) == 1
    await client.agent_report({"name": "Justitia"})
    await way.clock.advance(9)
    assert len(await shown()) == 1
    await way.clock.advance(1)
    assert await shown() == []
    await client.agent_register(CARD)
    assert len(await shown()) == 1


async def test_after_it_left(client, shown):
    await client.agent_register(CARD)
    assert len(await shown()) == 1
    await client.agent_unregister(name="Justitia")
    assert await shown() == []
    with pytest.raises(AgentNotFound):
        await client.agent_unregister(name="Justitia")


@pytest.mark.parametrize("end", ["expired", "dropped"])
async def test_after_its_mailbox_was_gone(way, client, law, shown, end):
    await client.agent_register(CARD)
    await client.agent_register({**CARD, "name": "partner"})
    assert len(await shown("partner")) == 1
    if end == "expired":
        await way.clock.advance(100)
    else:
        await client.mailbox_drop(law)
    assert await shown() == await shown("partner") == []
    await client.mailbox_create(name="law")
    assert await shown() == [], "the mailbox that is there now is another one"
    assert [agent.match.name for agent in await client.agent_discover()] == ["Flora"]
