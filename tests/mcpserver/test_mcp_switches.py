"""Tools that are switched off are nowhere."""

import json

import pytest
from attacks import refusal, state
from hosting import ERAS, at_rest
from mcp_types import PromptReference
from tools.examples import valid_arguments, with_mailbox

from mq9.operations.catalog import ALL

pytestmark = pytest.mark.unmeasured

ARGUMENTS = valid_arguments("desk")
LOOKING = {name for name, one in ALL.items() if one.read_only}


PLAYED = "play.*"


def played_at(name):
    """A mailbox in which no other tool is used."""
    return PLAYED.replace("*", name.replace("_", "."))


@pytest.fixture
async def cursor(broker):
    """Another agent, which can do to its broker whatever a program can.

    There is mail for each tool.
    """
    async with broker.client() as client:
        await client.mailbox_create(name="cursor")
        await client.agent_register({"name": "cursor", "mailbox": "cursor", "payload": "Edits"})
        for name in ALL:
            await client.mailbox_create(name=played_at(name))
            await client.send(played_at(name), "hello")
        yield client


@pytest.fixture
async def desk(open_host, era, cursor):
    host = await open_host("desk", era=era)
    await host.do("send_message", to="desk", content="mine")
    return host


async def touch_everything(host, prefix="mq9_"):
    """Use all that a server may offer; how each was refused.

    The host may read what is at `PLAYED`.
    """
    told = {}
    for name in ALL:
        arguments = with_mailbox(name, ARGUMENTS[name], played_at(name))
        if "msg_id" in arguments:
            fetch = {"mail_address": played_at(name), "wait_seconds": 0}
            await refusal(host.client.call_tool(prefix + "fetch_messages", fetch))
        told[name] = await refusal(host.client.call_tool(prefix + name, arguments))
    await host.client.list_tools()
    await host.client.list_prompts()
    await host.client.list_resources()
    await host.client.list_resource_templates()
    for uri in ("mq9://agents", "mq9://mailbox/desk", "mq9://message/desk/1", "mq9://protocol"):
        told[uri] = await refusal(host.client.read_resource(uri))
    for name, arguments in (("check_inbox", {}), ("delegate_task", {"task": "x"})):
        told[name] = await refusal(host.client.get_prompt(name, arguments))
    agents = await host.client.complete(
        PromptReference(name="delegate_task"), {"name": "agent", "value": "c"}
    )
    told["completion"] = None if agents.completion.values else "nothing"
    if host.client.protocol_version == ERAS[0]:
        async with host.client.listen(resource_subscriptions=["mq9://mailbox/desk"]) as events:
            told["watch"] = None if events.honored.resource_subscriptions else "nothing"
    else:
        told["watch"] = await refusal(host.client.subscribe_resource("mq9://mailbox/desk"))
        await host.client.unsubscribe_resource("mq9://mailbox/desk")
    return told


@pytest.mark.parametrize("has_mail", [False, True])
async def test_a_reader_changes_nothing_at_all(open_host, era, cursor, broker, has_mail):
    if has_mail:
        await cursor.mailbox_create(name="desk")
        for _ in range(2):
            await cursor.send("desk", "hello")
        await cursor.agent_register({"name": "desk", "mailbox": "desk"})
    before = state(broker)
    desk = await open_host("desk", era=era, read_only=True, allow_read=[PLAYED])

    told = await touch_everything(desk)
    await at_rest(broker)

    assert state(broker) == before
    listed = {tool.name for tool in (await desk.client.list_tools()).tools}
    assert listed == {f"mq9_{name}" for name in LOOKING}
    for name in ALL.keys() - LOOKING:
        assert told[name] == f"unknown tool: 'mq9_{name}'"
    assert told["check_inbox"] == "unknown prompt: 'check_inbox'"
    assert told["delegate_task"] == "unknown prompt: 'delegate_task'"
    if has_mail:
        assert {name for name, text in told.items() if text is None} == {
            *LOOKING,
            *("mq9://agents", "mq9://mailbox/desk", "mq9://message/desk/1", "mq9://protocol"),
            *("completion", "watch"),
        }


# What else goes with each tool that is not offered.
GOES_WITH = {
    "query_messages": {"mq9://mailbox/desk", "mq9://message/desk/1", "watch"},
    "agent_discover": {"mq9://agents", "completion", "delegate_task"},
    # Only what was fetched can be acked.
    "fetch_messages": {"check_inbox", "delegate_task", "ack_messages"},
    "ack_messages": {"check_inbox", "delegate_task"},
    "send_message": {"check_inbox", "delegate_task"},
    "create_mailbox": {"delegate_task"},
}


@pytest.mark.parametrize("withheld", ALL)
async def test_what_is_not_offered_is_nowhere(open_host, era, cursor, withheld):
    offered = [name for name in ALL if name != withheld]
    await cursor.mailbox_create(name="desk")  # before the host makes it
    desk = await open_host("desk", era=era, tools=offered, allow_read=[PLAYED])
    for _ in range(2):
        await cursor.send("desk", "hello")
    await cursor.agent_register({"name": "desk", "mailbox": "desk"})

    told = await touch_everything(desk)
    refused = {name for name, text in told.items() if text is not None}
    assert refused == {withheld, *GOES_WITH.get(withheld, ())}
    for form in ("mq9_mq9_{}", "{}", " mq9_{}", "mq9_{} ", "MQ9_{}", "mq9_{}\0", "mq9_/{}"):
        told = await refusal(desk.client.call_tool(form.format(withheld), ARGUMENTS[withheld]))
        assert told.startswith("unknown tool")


@pytest.mark.parametrize("most", [100, 1_000])
async def test_no_result_holds_more_of_others_words_than_it_may(open_host, era, cursor, most):
    await cursor.mailbox_create(name="desk")  # before the host makes it
    desk = await open_host("desk", era=era, max_chars=most)
    for number in range(30):
        await cursor.send("desk", "\u200b" * (most // 3) + "x" * number)
        await cursor.agent_register({"name": f"a{number}", "mailbox": "desk", "payload": "y" * 999})

    said = [
        (await desk.call(tool, **arguments)).structured_content
        for tool, arguments in (
            *(("query_messages", {"limit": 1_000}), ("query_messages", {"msg_id": 3})),
            *(("fetch_messages", {"wait_seconds": 0, "limit": 1_000}), ("agent_discover", {})),
            ("agent_discover", {"limit": 100}),
        )
    ]
    said += [await desk.read(uri) for uri in ("mq9://mailbox/desk", "mq9://message/desk/3")]
    said.append(await desk.read("mq9://agents"))
    for result in said:
        words = "".join(
            one.get("untrusted_content", "") + one.get("untrusted_card", "").partition("…")[0]
            for one in (*result.get("messages", ()), *result.get("agents", ()))
        )
        assert len(words) <= most, json.dumps(result)[:500]


async def test_a_registration_lasts_as_long_as_is_said(open_host, broker):
    desk = await open_host("desk", registration_ttl=86_400)
    other = await open_host("other")
    for host in (desk, other):
        await host.do("agent_register", capabilities="x")

    await broker.clock.advance(86_400)

    assert [one["untrusted_name"] for one in (await other.do("agent_discover"))["agents"]] == [
        "other"
    ]
