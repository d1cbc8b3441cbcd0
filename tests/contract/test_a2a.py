"""An AgentCard of the official A2A SDK is an agent's registration as it is, in both its forms."""

import pytest
from a2a.compat.v0_3 import types as before
from a2a.types import AgentCapabilities, AgentCard, AgentExtension, AgentInterface, AgentSkill
from google.protobuf.json_format import MessageToDict

NAME, URL = "GeoSpatial Route Planner", "https://routes.example.org/a2a"
DESCRIPTION = "Plans journeys and draws maps."
SKILL = {
    "id": "x9-traffic",
    "name": "Traffic-aware route optimizer",
    "description": "Computes the quickest way between two places.",
    "tags": ["navigation", "directions"],
    "examples": ["How do I get from Mountain View to the airport without motorways?"],
}


def card_of_today():
    return MessageToDict(
        AgentCard(
            name=NAME,
            description=DESCRIPTION,
            version="1.2.0",
            supported_interfaces=[AgentInterface(url=URL, protocol_binding="JSONRPC")],
            capabilities=AgentCapabilities(
                streaming=True,
                extensions=[
                    AgentExtension(uri="https://extensions.example.org/geo", required=True)
                ],
            ),
            default_input_modes=["application/json"],
            default_output_modes=["application/geo+json"],
            skills=[AgentSkill(**SKILL, input_modes=["text/plain"])],
        )
    )


def card_before():
    return before.AgentCard(
        name=NAME,
        description=DESCRIPTION,
        version="1.2.0",
        url=URL,
        capabilities=before.AgentCapabilities(streaming=True),
        default_input_modes=["application/json"],
        default_output_modes=["application/geo+json"],
        skills=[before.AgentSkill(**SKILL)],
    ).model_dump()


@pytest.fixture(params=[card_of_today, card_before])
async def card(client, request):
    """Register a card, and another agent that is about something else."""
    inbox = await client.mailbox_create(name="routes")
    card = request.param()
    card["mailbox"] = f"mq9://broker/{inbox}"
    await client.agent_register(card)
    await client.agent_register({"name": "baker", "payload": "Bakes bread, rolls and croissants"})
    return card


async def test_it_comes_back_as_it_was(client, card):
    [found] = await client.agent_discover(text=NAME)
    assert dict(found) == card
    assert (found.match.name, found.match.mailbox) == (NAME, "routes")
    sent = await client.send(found.match.mailbox, "to the airport")
    assert sent >= 0
    [message] = await client.query(found["mailbox"])
    assert message.text == "to the airport"


async def test_it_is_found_by_what_it_says_of_itself_and_its_skills(client, card):
    said = "route planner,draws a map,optimizer,quickest way,directions,motorway"
    for question in said.split(","):
        found = await client.agent_discover(text=question)
        assert [agent.match.name for agent in found] == [NAME], question


async def test_it_is_not_found_by_what_it_says_to_programs(client, card):
    for question in ("json", "jsonrpc", "https", "example", "a2a", "1.2.0", "x9"):
        assert await client.agent_discover(text=question) == [], question


@pytest.mark.usefixtures("model")
async def test_it_is_found_by_its_meaning(client, card):
    for question, name in (
        ("which road should I drive along?", NAME),
        ("who has fresh buns for breakfast?", "baker"),
    ):
        [found] = await client.agent_discover(semantic=question, limit=1)
        assert (found.match.name, found.match.mode) == (name, "semantic")


async def test_it_reports_and_leaves_by_its_mailbox(client, card):
    await client.agent_report({"mailbox": card["mailbox"], "load": 0.5})
    [found] = await client.agent_discover(text=NAME)
    assert found.match.status == {"load": 0.5}
    await client.agent_unregister(card["mailbox"])
    assert await client.agent_discover(text=NAME) == []
