"""Every tool, in both protocol eras; and that LangChain's tools are the same."""

import pytest
from mcp.shared.exceptions import MCPError

from langchain_mq9 import Mq9Toolkit
from mq9.operations.catalog import ALL, OPERATIONS
from mq9.operations.operation import arguments_schema

pytestmark = pytest.mark.unmeasured

NAMES = [operation.name for operation in OPERATIONS]


async def test_a_host_is_told_of_every_tool(host):
    tools = (await host.client.list_tools()).tools

    assert [tool.name for tool in tools] == [f"mq9_{name}" for name in ALL]
    for tool, operation in zip(tools, ALL.values(), strict=True):
        assert tool.title == operation.title
        assert tool.description
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        hints = tool.annotations
        assert hints.read_only_hint is operation.read_only
        assert hints.destructive_hint is operation.destructive
        assert hints.idempotent_hint is operation.idempotent
        assert hints.open_world_hint is operation.open_world


async def test_no_protocol_announces_that_lists_change(host):
    """They are fixed while the server runs, and a listener for their changes would wait in vain."""
    can = host.client.server_capabilities
    assert [one.list_changed for one in (can.tools, can.prompts, can.resources)] == [False] * 3
    assert can.resources.subscribe  # as mail is told


async def test_an_agent_is_told_who_it_is(open_host, era):
    desk = await open_host("Data Desk", era=era, allow_read=["team.*"], allow_send=["team.*"])
    other = await open_host("other", era=era)

    assert await desk.do("whoami") == {
        "name": "Data Desk",
        "mail_address": "data.desk",
        "waiting": {"critical": 0, "urgent": 0, "normal": 0},
        "mailboxes": [{"mail_address": "data.desk", "waiting": 0}],
        "not_enforced": "this broker does not know who asks: all who know the address can look, "
        "take and write",
        "may_read": "Data Desk may read its own mailbox data.desk, team.* and what it made, and "
        "look into what others publish to it",
        "may_send": "Data Desk may send to team.*, and what it may read itself",
    }
    for priority in ("critical", "normal", "normal"):
        await other.do("send_message", to="data.desk", content="x", priority=priority)
    told = await desk.do("whoami")
    assert told["waiting"] == {"critical": 1, "urgent": 0, "normal": 2}
    assert told["your_unread"] == "3 unread (1 critical, 2 normal): call mq9_fetch_messages"


async def test_whoever_is_not_registered_cannot_be_unregistered(host):
    assert (await host.fail("agent_unregister")).startswith("agent not found: ")


async def test_a_tool_that_does_not_exist_is_an_error_of_the_protocol(host):
    for name in ("fetch_messages", "mq9_nothing", "", "x" * 10_000):
        with pytest.raises(MCPError, match="unknown tool") as refused:
            await host.client.call_tool(name, {})
        assert refused.value.error.code == -32602
        assert len(refused.value.error.message) < 200


async def test_a_wrong_argument_is_told_with_its_name_and_value(host):
    told = await host.fail("fetch_messages", limit="7", wait_seconds=3_601, sender="somebody")

    assert told == (
        "limit: Input should be a valid integer, not '7'; "
        "wait_seconds: Input should be less than or equal to 3600, not 3601; "
        "sender: unknown argument. There are mail_address, limit, wait_seconds, "
        "min_msgs, answers_to, max_chars, include_held, reclaim. Correct that and call again."
    )
    many = await host.fail("whoami", **{f"a{number}": "x" * 1_000_000 for number in range(20)})
    assert "; and 15 more. There are none. Correct" in many
    assert len(many) < 2_000


async def test_the_names_of_the_tools_may_begin_otherwise(open_host):
    host = await open_host(prefix="mail-", tools=["mail-whoami", "send_message"])

    listed = [tool.name for tool in (await host.client.list_tools()).tools]
    assert listed == ["mail-send_message", "mail-whoami"]
    assert not (await host.client.call_tool("mail-whoami", {})).is_error


@pytest.mark.parametrize("name", NAMES)
async def test_langchains_tool_is_the_same(open_host, broker, name):
    host = await open_host(prefix="")
    [there] = [tool for tool in (await host.client.list_tools()).tools if tool.name == name]
    with Mq9Toolkit(broker.url, agent="desk") as toolkit:
        [here] = [tool for tool in toolkit.get_tools() if tool.name == name]

        assert here.description == there.description
        assert arguments_schema(here.get_input_schema()) == there.input_schema
