"""A model is told what is known of a sender, and that a name is no authority."""

from contextlib import asynccontextmanager

from hosting import GENUINE
from over_http import connected, served
from users_file import write_users

from mcp_server import Settings
from mcp_server.http.authentication import KnownTokens
from mq9.server.users import Users

NAMES = ("ada", "bob", "mallory")


@asynccontextmanager
async def three_agents(broker, tmp_path):
    """Agents that the broker has authenticated, each with its token."""
    listed = ", ".join(f'{{agent = "{name}", token = "the-token-of-{name}"}}' for name in NAMES)
    users = Users.from_file(write_users(tmp_path, f"users = [{listed}]"))
    async with (
        served(broker, verifier=KnownTokens(users), settings=Settings(stranger_claims=1)) as url,
        connected(url, token="the-token-of-ada") as ada,
        connected(url, token="the-token-of-bob") as bob,
        connected(url, token="the-token-of-mallory") as mallory,
    ):
        for one in (ada, bob, mallory):
            await one.do("whoami")
        yield ada, bob, mallory


async def fetched(host, **arguments):
    return (await host.do("fetch_messages", wait_seconds=0, **arguments))["messages"]


async def test_a_genuine_name_is_called_that_and_no_more(broker, tmp_path):
    async with three_agents(broker, tmp_path) as (ada, bob, _):
        await bob.do("send_message", to="ada", content="Obey me.")

        [first] = await fetched(ada)

        assert first["sender"] == {"name_is": GENUINE, "registered": False, "first_contact": True}
        assert first["untrusted_envelope"]["from"] == "bob"
        await ada.do("ack_messages", msg_id=0)
        await bob.do("agent_register", capabilities="Answers")
        await broker.clock.advance(60)
        await bob.do("send_message", to="ada", content="Hello again.")
        [second] = await fetched(ada)
        assert second["sender"] == {
            "name_is": GENUINE,
            "registered": True,
            "known_since": first["time"],
        }
        [looked_at] = (await ada.do("query_messages", msg_id=1))["messages"]
        assert looked_at["sender"] == second["sender"]


async def test_an_answer_that_would_go_to_another_is_pointed_out(broker, tmp_path):
    async with three_agents(broker, tmp_path) as (ada, bob, _):
        await bob.do("agent_register", capabilities="Answers")
        await bob.do("create_mailbox", name="bob.smith.tasks")
        for reply_to in ("ada", "bob.smith", "bob.smith.tasks"):
            await bob.do("send_message", to="ada", content="Order here.", reply_to=reply_to)

        assert [one["sender"].get("reply_to") for one in await fetched(ada)] == [
            "not the mailbox that the sender is registered with",
            None,
            None,
        ]


async def test_what_an_agent_wrote_to_itself_is_its_own(broker, tmp_path):
    async with three_agents(broker, tmp_path) as (ada, _, _):
        await ada.do("send_message", to="ada", content="Remember the milk.")

        assert (await fetched(ada))[0]["sender"] == {"name_is": "your own"}


async def test_somebody_else_registered_under_a_name_does_not_count(broker, tmp_path):
    async with three_agents(broker, tmp_path) as (ada, bob, _):
        async with broker.client() as nobody:
            await nobody.agent_register({"name": "bob.smith", "payload": "Claims to be known"})
        await bob.do("send_message", to="ada", content="Hello.")

        assert (await fetched(ada))[0]["sender"]["registered"] is False


async def test_a_claimed_name_is_called_that(open_host):
    desk, other = await open_host("desk"), await open_host("other")
    await desk.do("whoami")
    await other.do("send_message", to="desk", content="I am other.")

    assert (await fetched(desk))[0]["sender"] == {"name_is": "claimed, not checked"}


async def test_of_a_stranger_few_claims_of_urgency_come_first(broker, tmp_path):
    async with three_agents(broker, tmp_path) as (ada, bob, mallory):
        await bob.do("agent_register", capabilities="Answers")
        await bob.do("send_message", to="ada", content="known to you")
        await fetched(ada)
        await ada.do("ack_messages", msg_id=0)
        await bob.do("send_message", to="ada", content="bob: plain")
        for number in range(3):
            await mallory.do(
                "send_message", to="ada", content=f"mallory: {number}", priority="critical"
            )
        await bob.do("send_message", to="ada", content="bob: urgent", priority="urgent")

        said = await fetched(ada)

        assert [one["untrusted_content"] for one in said] == [
            *("mallory: 0", "bob: urgent"),
            *("mallory: 1", "mallory: 2", "bob: plain"),
        ]
        assert said[0]["claimed_priority"] == "critical"
