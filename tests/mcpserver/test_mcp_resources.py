"""Resources, prompts and completions: what is there to look at, in both protocol eras."""

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

MAILBOX = ResourceTemplateReference(uri="mq9://mailbox/{address}")
MESSAGE = ResourceTemplateReference(uri="mq9://message/{address}/{msg_id}")
DELEGATE = PromptReference(name="delegate_task")


async def test_what_there_is_to_look_at_is_listed(host):
    found = (await host.client.list_resources()).resources
    templates = (await host.client.list_resource_templates()).resource_templates

    assert [one.uri for one in found] == ["mq9://protocol", "mq9://agents", "mq9://mailbox/desk"]
    assert [one.uri_template for one in templates] == [MAILBOX.uri, MESSAGE.uri]
    assert all(one.title and one.description and one.mime_type for one in [*found, *templates])


async def test_looking_into_a_mailbox_takes_nothing(host):
    for letter in "abc":
        await host.do("send_message", to="desk", content=letter, tags=[letter])

    for _ in range(2):
        seen = await host.read("mq9://mailbox/desk")
        assert [one["untrusted_content"] for one in seen["messages"]] == [*"abc"]
        assert seen["messages"][0]["untrusted_envelope"]["tags"] == ["a"]
        one = await host.read("mq9://message/desk/1")
        assert one["messages"] == seen["messages"][1:2]
        assert one["your_unread"] == "3 unread: call mq9_fetch_messages"

    [fetched, *_] = (await host.do("fetch_messages", wait_seconds=0))["messages"]
    assert "delivery_count" not in fetched
    await host.do("ack_messages", msg_id=0)
    said = (await host.read("mq9://mailbox/desk"))["messages"]
    assert said[0] == {**seen["messages"][0], "state": "acked"}
    assert [one["untrusted_content"] for one in said] == [*"abc"]


async def test_the_agents_are_read(host):
    await host.do("agent_register", name="desk", capabilities="Writes letters")
    [agent] = (await host.read("mq9://agents"))["agents"]
    assert (agent["untrusted_name"], agent["untrusted_card"]) == ("desk", "Writes letters")
    assert agent["you"] is True


async def test_how_mail_works_is_one_page(host):
    [page] = (await host.client.read_resource("mq9://protocol")).contents
    assert page.mime_type == "text/markdown"
    for tool in ("whoami", "agent_register", "send_message", "fetch_messages", "ack_messages"):
        assert f"`mq9_{tool}`" in page.text


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mq9://message/desk/7", "desk has no message 7"),
        ("mq9://message/desk/99999999999999999", "the resource does not exist"),
        ("mq9://message/desk/9999999999999999", "msg_id: "),
        ("mq9://message/desk/one", "the resource does not exist"),
        ("mq9://mailbox/Desk", "invalid mail_address: 'Desk'"),
        ("mq9://mailbox/other", "mail_address: desk may read its own mailbox desk"),
        ("mq9://mailbox/", "the resource does not exist"),
        ("mq9://mailbox/desk/more", "the resource does not exist"),
        ("mq9://nothing", "the resource does not exist"),
        ("https://mailbox/desk", "the resource does not exist"),
        ("", "the resource does not exist"),
    ],
)
async def test_what_is_not_there_is_an_error_that_names_it(host, uri, said):
    await host.do("whoami")
    with pytest.raises(MCPError) as refused:
        await host.client.read_resource(uri)

    assert refused.value.error.code == -32602
    assert said in refused.value.error.message
    assert refused.value.error.data == {"uri": uri}


async def test_the_prompts_say_what_to_do_with_the_tools(host):
    prompts = {one.name: one for one in (await host.client.list_prompts()).prompts}
    assert set(prompts) == {"guide", "check_inbox", "delegate_task"}
    assert [(one.name, bool(one.required)) for one in prompts["delegate_task"].arguments] == [
        ("task", True),
        ("agent", False),
    ]

    [inbox] = (await host.client.get_prompt("check_inbox")).messages
    assert "mq9_fetch_messages" in inbox.content.text
    [task] = (await host.client.get_prompt("delegate_task", {"task": "Add {1} and {2}"})).messages
    assert "Add {1} and {2}" in task.content.text
    assert "mq9_agent_discover" in task.content.text
    given = {"task": "Add", "agent": "cal{culator}"}
    [task] = (await host.client.get_prompt("delegate_task", given)).messages
    assert "Send it to the agent 'cal{culator}'" in task.content.text


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("nothing", {}, "unknown prompt: 'nothing'"),
        ("delegate_task", {}, "task: delegate_task needs it"),
        ("delegate_task", {"task": " "}, "task: delegate_task needs it"),
        ("delegate_task", {"task": "x", "who": "y"}, "who: delegate_task has no such argument"),
        ("check_inbox", {"task": "x"}, "task: check_inbox has no such argument"),
        ("delegate_task", {"task": "x" * 100_001}, "task: 100001 characters are more than 100000"),
    ],
)
async def test_a_prompt_that_cannot_be_filled_in_is_an_error(host, name, arguments, said):
    with pytest.raises(MCPError) as refused:
        await host.client.get_prompt(name, arguments)

    assert refused.value.error.code == -32602
    assert refused.value.error.message == said


async def complete(host, ref, name, value):
    return (await host.client.complete(ref, {"name": name, "value": value})).completion


async def test_names_of_agents_are_completed(host, broker):
    async with broker.client() as client:
        for name in ("Writer", "writing desk", "Reader"):
            await client.agent_register({"name": name})
        found = await complete(host, DELEGATE, "agent", "wri")
        assert found.values == ["Writer", "writing.desk"]  # of more than a word, the address
        assert not found.has_more
        everybody = ["Reader", "Writer", "writing.desk"]
        assert (await complete(host, DELEGATE, "agent", "")).values == everybody
        for number in range(101):
            await client.agent_register({"name": f"agent.{number}", "mailbox": "x"})
    names = await complete(host, DELEGATE, "agent", "")
    assert (len(names.values), names.has_more) == (100, True)


async def test_the_agents_own_addresses_are_completed(host):
    made = [(await host.do("create_mailbox"))["mail_address"] for _ in range(2)]
    for template in (MAILBOX, MESSAGE):
        found = await complete(host, template, "address", "desk")
        assert found.values == ["desk", *reversed(made)]
    assert (await complete(host, MAILBOX, "address", made[0][:9])).values == [made[0]]
    assert (await complete(host, MAILBOX, "address", "other")).values == []
    for _ in range(98):
        await host.do("create_mailbox")
    found = await complete(host, MAILBOX, "address", "")
    assert (len(found.values), found.total, found.has_more) == (100, 101, True)


async def test_what_cannot_be_completed_is_completed_by_nothing(host):
    for ref, name in (
        (DELEGATE, "task"),
        (PromptReference(name="check_inbox"), "agent"),
        (PromptReference(name="nothing"), "agent"),
        (MESSAGE, "msg_id"),
        (ResourceTemplateReference(uri="mq9://agents"), "address"),
    ):
        assert (await complete(host, ref, name, "")).values == []


async def test_what_may_be_kept_says_for_how_long(open_host):
    client = (await open_host()).client
    for listing in (client.list_tools, client.list_prompts, client.list_resource_templates):
        listed = await listing()
        assert (listed.ttl_ms, listed.cache_scope) == (300_000, "public")
    assert (await client.list_resources()).cache_scope == "private"
    read = await client.read_resource("mq9://mailbox/desk")
    assert (read.ttl_ms, read.cache_scope) == (0, "private")


async def test_a_host_is_told_who_its_agent_is(open_host, era):
    host = await open_host("Data Desk", era=era)
    assert host.client.instructions.startswith("You are the agent Data Desk, at data.desk. Your")


@pytest.mark.parametrize("switches", [{"read_only": True}, {"tools": ["fetch_messages"]}], ids=str)
async def test_who_cannot_take_mail_is_not_told_to_expect_any(open_host, era, switches):
    host = await open_host("desk", era=era, **switches)
    [guide] = (await host.client.read_resource("mq9://protocol")).contents
    for told in (host.client.instructions, guide.text):
        assert "You are the agent desk" in told
        assert "no tools to fetch and acknowledge mail" in told
        assert "kept until you" not in told
        assert "reach you" not in told


async def test_a_reader_without_a_mailbox_sees_that_it_is_empty(open_host, era):
    host = await open_host("desk", era=era, read_only=True)
    assert await host.do("query_messages") == {"mail_address": "desk", "messages": []}
    assert await host.read("mq9://mailbox/desk") == {"mail_address": "desk", "messages": []}
