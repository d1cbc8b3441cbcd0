"""An agent reaches its own mail as itself, whatever an attacker tries."""

import pytest
from attacks import FORMS, calls, refusal, refusals, state, uris
from hosting import ERAS, Host, User, at_rest
from mcp.client import Client
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp_types import (
    ElicitResult,
    InputRequiredResult,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
)

from mcp_server import Callers, Settings, make_server

pytestmark = pytest.mark.unmeasured

SECRET = "the secret"
SENDING = {"mail_address": "cursor", "content": "x"}


async def works_on(client, address):
    """Take the first message of a mailbox, as another agent does."""
    assert await client.fetch(
        address, group_name="cursor", consumer="cursor/1", deliver="earliest", max_wait_ms=0
    )


@pytest.fixture
async def cursor(broker):
    """Another agent, which has mail and works on it, and a mailbox that nobody knows."""
    async with broker.client() as client:
        await client.mailbox_create(name="cursor")
        await client.agent_register({"name": "cursor", "mailbox": "cursor", "payload": "Edits"})
        await client.send("cursor", SECRET, sender="someone", key="k", tags=["a"])
        await works_on(client, "cursor")
        await client.send("cursor", SECRET)
        await client.mailbox_create(name="team.one")
        yield client


@pytest.fixture
async def desk(open_host, era, cursor):
    """An agent with a message of its own."""
    host = await open_host("desk", era=era)
    await host.do("send_message", to="desk", content="mine")
    await host.do("fetch_messages", wait_seconds=0, group_name="cursor")
    return host


async def test_no_form_of_an_address_leads_into_the_mailbox_of_another(desk, cursor, broker):
    private = await cursor.mailbox_create(prefix="cursor", desc="made by agent cursor")
    beside = private.replace("cursor", "desk")
    alike = await cursor.mailbox_create(name="desk.customerrelationshipmanagers")
    before = state(broker)

    for form in (*FORMS, private, beside, alike, f"mq9://x/{alike}"):
        async for variant, given, told in refusals(desk, form):
            assert told, (variant, given)
            assert SECRET not in told
            assert len(told) < 1_000

    assert state(broker) == before
    assert [one.payload for one in await cursor.query("cursor")] == [SECRET.encode()] * 2


async def test_the_same_ways_lead_into_ones_own_mailbox(desk):
    for address in ("desk", "mq9://broker/desk"):
        for tool, arguments in calls(address):
            if tool != "delete_message":
                await desk.do(tool, **arguments)
    for uri in (*list(uris("desk"))[:2], "mq9://mailbox/mq9%3A%2F%2Fx%2Fdesk"):
        [message] = (await desk.read(uri))["messages"]
        assert message["untrusted_content"] == "mine"


async def test_only_ones_own_mailbox_is_watched(open_host, era, cursor, broker):
    heard = []

    async def hear(message):
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(message.params.uri)

    handler = {} if era == ERAS[0] else {"message_handler": hear}
    desk = await open_host("desk", era=era, client=handler)
    await desk.do("whoami")
    before = state(broker)
    asked = [uri for form in FORMS for uri in uris(form)]
    own = "mq9://mailbox/desk"

    async def mail_comes():
        for address in ("cursor", "desk"):
            await cursor.send(address, "new")

    if era == ERAS[0]:
        async with desk.client.listen(resource_subscriptions=[*asked, own]) as events:
            assert events.honored.resource_subscriptions == [own]
            assert state(broker) == before
            await mail_comes()
            heard.append((await anext(events)).uri)
    else:
        for uri in asked:
            told = await refusal(desk.client.subscribe_resource(uri))
            # What is no mailbox at all is watched in vain.
            assert told or not uri.startswith("mq9://mailbox/") or "/" in uri.split("/", 3)[3]
        await desk.client.subscribe_resource(own)
        assert state(broker) == before
        await mail_comes()
        await broker.clock.advance(0)
        await desk.do("whoami")
        await desk.client.unsubscribe_resource(own)
    await at_rest(broker)
    assert heard == [own]


@pytest.mark.parametrize("form", ["team.one", "mq9://x/team.one"])
async def test_what_may_be_read_is_what_the_patterns_name(open_host, era, cursor, form):
    desk = await open_host("desk", era=era, allow_read=["team.*"])
    await desk.do("whoami")
    for refused in ("team", "teams.one", "my.team.one", "cursor", "team.*", "team.", "team.one/x"):
        async for variant, given, told in refusals(desk, refused):
            assert told, (variant, given)

    await cursor.send("team.one", "for all")
    assert (await desk.do("query_messages", mail_address=form))["messages"]
    # What one agent has taken is another's as before.
    await works_on(cursor, "team.one")
    [taken] = (await desk.do("fetch_messages", mail_address=form, wait_seconds=0))["messages"]
    await desk.do("ack_messages", mail_address=form, msg_id=taken["msg_id"])
    held = await cursor.mailbox_status("team.one", group_name="cursor")
    assert (sum(one.count for one in held.group.leased), held.group.acked) == (1, 0)


async def test_nobody_is_somebody_else(desk, cursor, broker):
    before = state(broker)
    for name in ("cursor", "Desk", "desk ", "d\u0435sk"):
        await desk.fail("agent_register", name=name, capabilities="x")
    for argument in ("sender", "from", "from_", "mq9-from", "agent", "name", "consumer", "_meta"):
        for tool, given in (("send_message", SENDING), ("whoami", {}), ("agent_unregister", {})):
            told = await desk.fail(tool, **given, **{argument: "cursor"})
            assert f"{argument}: unknown argument" in told
    assert state(broker) == before

    meta = {"agent": "cursor", "sender": "cursor", "mail_address": "cursor", "sub": "cursor"}
    who = await desk.client.call_tool("mq9_whoami", {}, meta=meta)
    assert who.structured_content["mail_address"] == "desk"
    await desk.client.call_tool("mq9_send_message", SENDING, meta=meta)
    assert [one.sender for one in await cursor.query("cursor")] == ["someone", None, "desk"]


async def test_an_agent_takes_only_itself_out_of_the_list_and_completes_its_own_addresses(
    desk, cursor
):
    await cursor.agent_register({"name": "reception", "mailbox": "desk"})
    assert "not found" in await desk.fail("agent_unregister")
    await desk.do("agent_register", name="desk", capabilities="x")
    await desk.do("agent_unregister")
    assert [one.match.name for one in await cursor.agent_discover()] == ["cursor", "reception"]

    await desk.do("create_mailbox", name="desk.more")
    for uri in ("mq9://mailbox/{address}", "mq9://message/{address}/{msg_id}"):
        for typed in ("", *FORMS):
            found = await desk.client.complete(
                ResourceTemplateReference(uri=uri), {"name": "address", "value": typed}
            )
            assert set(found.completion.values) <= {"desk", "desk.more"}


async def test_nothing_is_sent_where_it_may_not_be(open_host, era, cursor, broker):
    desk = await open_host("desk", era=era, allow_send=["team.*"])
    await desk.do("whoami")
    before = state(broker)

    for form in (*FORMS, "team", "teams.one", "team.*", "team.one,cursor", "mq9://team.one/cursor"):
        for where in ({"mail_address": form}, {"mail_address": "team.one", "reply_to": form}):
            for more in ({}, {"delay": 1, "key": "k", "priority": "critical"}):
                assert await desk.fail("send_message", content="x", **where, **more)
    assert state(broker) == before

    for form in ("team.one", "mq9://x/team.one", "desk"):
        await desk.do("send_message", to=form, content="x", reply_to=form)


DELETE = {"mail_address": "desk", "msg_id": 0}


async def test_where_nobody_can_be_asked_only_the_right_address_deletes(desk, broker):
    before = state(broker)
    for given in (None, "", "cursor", "mq9://desk/cursor", "Desk", "*", "desk.", " desk", True, 1):
        await desk.fail("delete_message", **DELETE, confirm_address=given)
    yes = {"confirm": ElicitResult(action="accept", content={})}
    forged = [{"input_responses": yes}, {"input_responses": yes, "request_state": "yes"}]
    for more in forged:
        told = await refusal(desk.client.session.call_tool("mq9_delete_message", DELETE, **more))
        assert "confirm_address" in told or "Invalid or expired requestState" in told
    assert state(broker) == before


async def asked(host, arguments, **more):
    """Ask for a deletion as a client does that answers for its user."""
    return await host.client.session.call_tool(
        "mq9_delete_message", arguments, allow_input_required=True, **more
    )


async def test_a_forged_answer_deletes_nothing(open_host, broker):
    user = User("accept")
    desk = await open_host("desk", client={"elicitation_callback": user})
    other = await open_host("desk", client={"elicitation_callback": user})
    for _ in range(2):
        await desk.do("send_message", to="desk", content="x")
    yes = {"confirm": ElicitResult(action="accept", content={})}
    sealed = (await asked(desk, DELETE)).request_state
    another_process = (await asked(other, DELETE)).request_state
    before = state(broker)

    # Without what proves that it was asked, it is asked (again).
    for more in (
        {"input_responses": yes},
        {"request_state": sealed},
        {"request_state": sealed, "input_responses": {}},
        {"request_state": sealed, "input_responses": {"other": yes["confirm"]}},
    ):
        assert isinstance(await asked(desk, DELETE, **more), InputRequiredResult)
    question = "Delete message 0 of desk for everybody? It cannot be undone."
    tampered = sealed[:-3] + ("AAA" if sealed[-3:] != "AAA" else "BBB")
    for wrong in ("", "x", question, tampered, sealed + "A", sealed.upper(), another_process):
        told = await refusal(asked(desk, DELETE, request_state=wrong, input_responses=yes))
        assert told == "Invalid or expired requestState"
    for another in (
        {**DELETE, "msg_id": 1},
        {**DELETE, "mail_address": "cursor"},
        {**DELETE, "confirm_address": "desk"},
        {**DELETE, "mail_address": "mq9://x/desk"},
    ):
        told = await refusal(asked(desk, another, request_state=sealed, input_responses=yes))
        assert told == "Invalid or expired requestState"
    assert state(broker) == before
    assert user.asked == []

    assert not (await asked(desk, DELETE, request_state=sealed, input_responses=yes)).is_error
    assert state(broker) != before


async def test_the_answer_of_one_agent_is_none_of_another(broker):
    settings = Settings(allow_read=["team"])
    callers = Callers(lambda _agent: broker.client(), settings)
    async with broker.client() as client:
        await client.mailbox_create(name="team")
        await client.send("team", "x")
    yes = {"confirm": ElicitResult(action="accept", content={})}
    there = {"mail_address": "team", "msg_id": 0}

    def becomes(name):
        token = AccessToken(token=name, client_id=name, subject=name, scopes=[])
        auth_context_var.set(AuthenticatedUser(token))

    server = make_server(callers, settings)
    async with Client(server, elicitation_callback=User("accept")) as client:
        host = Host(client, server, callers)
        assert "a bearer token is needed" in await refusal(host.call("whoami"))
        becomes("ada")
        await host.do("whoami")  # makes her mailbox
        before = state(broker)
        sealed = (await asked(host, there)).request_state
        for name in ("bob", "Ada", "ada "):
            becomes(name)
            told = await refusal(asked(host, there, request_state=sealed, input_responses=yes))
            assert told == "Invalid or expired requestState"
        assert state(broker) == before
        becomes("ada")
        assert not (await asked(host, there, request_state=sealed, input_responses=yes)).is_error
