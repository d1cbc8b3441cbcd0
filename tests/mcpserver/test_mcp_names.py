"""Texts for a model call the tools what the host calls them, and name none that is not there."""

import json
import re

import pytest
from mcp.shared.exceptions import MCPError
from tools.examples import REQUIRED, VALID, WRONG

from mq9.operations.catalog import ALL

pytestmark = pytest.mark.unmeasured

PREFIX = "post-"
WORD = re.compile(rf"(?<![\w-])((?:{PREFIX})?)({'|'.join(ALL)})(?![\w-])")
SUBSETS = {
    "all": {},
    "read only": {"read_only": True},
    **{f"without {name}": {"tools": [one for one in ALL if one != name]} for name in ALL},
    **{f"only {name}": {"tools": [name]} for name in ALL},
}
PROMPTS = (
    ("guide", {}),
    ("check_inbox", {}),
    ("delegate_task", {"task": "t"}),
    ("delegate_task", {"task": "t", "agent": "writer"}),
)


def check(text, offered):
    """See that a text names tools by their served names, and none that is not offered."""
    for mark in ("@", "[[", "]]"):
        assert mark not in text, text
    for prefix, name in WORD.findall(text):
        assert prefix == PREFIX, text
        assert name in offered, text


async def described(client):
    """All that a host shows to a model, or to its user, before anything is called."""
    lists = (
        await client.list_tools(),
        await client.list_resources(),
        await client.list_resource_templates(),
        await client.list_prompts(),
    )
    texts = [json.dumps(one.model_dump(mode="json", exclude_none=True)) for one in lists]
    texts.append(client.instructions or "")
    [guide] = (await client.read_resource("mq9://protocol")).contents
    texts.append(guide.text)
    prompts = {one.name for one in (await client.list_prompts()).prompts}
    for name, given in PROMPTS:
        if name in prompts:
            got = await client.get_prompt(name, given)
            texts += [one.content.text for one in got.messages]
    return texts


async def said(client, name, arguments):
    try:
        result = await client.call_tool(PREFIX + name, arguments)
    except MCPError as error:
        return error.error.message
    return result.content[0].text


@pytest.mark.parametrize("subset", SUBSETS)
async def test_what_is_described_names_the_tools_that_are_there(open_host, era, subset):
    host = await open_host("planner", era=era, prefix=PREFIX, **SUBSETS[subset])
    offered = {one.name.removeprefix(PREFIX) for one in (await host.client.list_tools()).tools}

    texts = await described(host.client)

    for text in texts:
        check(text, offered)
    if subset == "all":
        assert {name for text in texts for _, name in WORD.findall(text)} == set(ALL)


@pytest.mark.parametrize("subset", SUBSETS)
async def test_what_is_answered_names_the_tools_that_are_there(open_host, broker, subset):
    host = await open_host("planner", prefix=PREFIX, max_chars=100, **SUBSETS[subset])
    offered = {one.name.removeprefix(PREFIX) for one in (await host.client.list_tools()).tools}
    async with broker.client() as other:
        await other.mailbox_create(name="planner", renew=True)
        for _ in range(3):
            await other.send("planner", "x" * 150, sender="worker")
    calls = [
        *((name, VALID[name]) for name in ALL),
        *(("query_messages", {"limit": 1}), ("query_messages", {"msg_id": 0})),
        ("delete_message", {"mail_address": "nobody", "msg_id": 9}),
        *(("delete_message", {"mail_address": "planner", "msg_id": one}) for one in (9, 1)),
        *(("send_message", {"to": one, "content": "x"}) for one in ("nobody", "No Body")),
        *(("ack_messages", {"msg_id": one}) for one in (0, 9, [1, 9])),
        *(
            ("agent_unregister", {}),
            ("agent_unregister", {}),
            ("create_mailbox", {"name": "planner"}),
        ),
        ("fetch_messages", {"mail_address": "worker"}),
        ("fetch_messages", {"wait_seconds": 0}),
    ]

    for name, arguments in calls:
        if name in offered:
            check(await said(host.client, name, arguments), offered)
    for uri in ("mq9://mailbox/planner", "mq9://message/planner/9", "mq9://agents"):
        try:
            [contents] = (await host.client.read_resource(uri)).contents
        except MCPError as error:
            check(error.error.message, offered)
        else:
            check(contents.text, offered)


async def test_what_is_refused_names_no_other_tools(open_host):
    host = await open_host("planner", prefix=PREFIX, tools=["delete_message", *REQUIRED])
    for name, argument in WRONG:
        for value in WRONG[name, argument][:6]:
            if isinstance(value, (str, int, list, dict, type(None))):
                text = await said(host.client, name, {**VALID[name], argument: value})
                check(text, set(ALL))


async def test_a_broker_that_is_gone_is_told_without_other_names(open_host, broker):
    host = await open_host("planner", prefix=PREFIX)
    broker.lose_next_reply("MAILBOX.CREATE")
    for name in ALL:
        for verb in ("MSG.SEND", "MAILBOX.CREATE", "MSG.FETCH"):
            broker.lose_next_reply(verb)
        check(await said(host.client, name, VALID[name]), set(ALL))
