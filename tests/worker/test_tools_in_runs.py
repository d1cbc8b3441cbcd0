"""A model that a worker runs has the mail of its thread, and not what comes for other threads."""

import json

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mq9 import MailboxWorker, Mq9Toolkit
from langchain_mq9.middleware import InboxMiddleware
from langchain_mq9.testing import ScriptedModel, call
from mq9 import Mq9Client
from tests.hosted import TrustingGuard, running, url_for
from tests.worker.graphs import echo, held, working

USERS = ("ada", "bob", "eve")


@pytest.fixture
def lawyer(broker):
    with Mq9Toolkit(broker.url, agent="lawyer") as toolkit:
        yield toolkit


def tell(conversation):
    """Say what the last tool said."""
    return AIMessage(conversation[-1].text)


def agent(toolkit, *steps, middleware=()):
    return create_agent(
        ScriptedModel(*steps),
        toolkit.get_tools(),
        middleware=middleware,
        checkpointer=InMemorySaver(),
    )


async def write_as_users(client):
    """Let each user send what is between that user and the lawyer."""
    await client.mailbox_create(name="lawyer", renew=True)
    for user in USERS:
        await client.mailbox_create(name=user)
        await client.send("lawyer", f"the secret of {user}", reply_to=user, sender=user)


async def answers(client):
    """Return what each user is answered, one answer each."""
    found = {}
    for user in USERS:
        [answer] = await client.fetch(user, group_name=user, max_wait_ms=60_000)
        found[user] = answer.text
    return found


def assert_nobody_reads_of_others(found):
    for user, text in found.items():
        assert not [one for one in USERS if one != user and f"secret of {one}" in text], user


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("fetch_messages", {"wait_seconds": 0}),
        ("fetch_messages", {}),
        ("fetch_messages", {"mail_address": "lawyer"}),
        ("query_messages", {}),
        ("query_messages", {"mail_address": "lawyer"}),
        ("delete_message", {"mail_address": "lawyer", "msg_id": 1}),
    ],
)
async def test_a_run_for_one_user_does_not_see_the_mail_of_others(client, lawyer, tool, arguments):
    script = [call(tool, **arguments), tell] * len(USERS)
    await write_as_users(client)
    async with working(client, agent(lawyer, *script), concurrency=1):
        found = await answers(client)

    assert_nobody_reads_of_others(found)
    assert "unread" not in "".join(found.values())
    assert await held(client) == 0
    assert len(await client.query("lawyer")) == len(USERS)


async def test_no_other_mail_is_put_before_the_model_in_a_run(client, lawyer):
    seen = InboxMiddleware(lawyer, mode="messages")

    def repeat(conversation):
        return AIMessage(" ".join(one.text for one in conversation))

    await write_as_users(client)
    graph = agent(lawyer, *[repeat] * len(USERS), middleware=[seen])
    async with working(client, graph, concurrency=1):
        assert_nobody_reads_of_others(await answers(client))


@pytest.mark.parametrize("by", ["mail", "wait", "interrupt"])
async def test_a_model_in_a_run_asks_another_agent(client, lawyer, by):
    if by == "mail":
        script = [
            call("send_message", to="clerk", content="Is it signed?"),
            call("fetch_messages", wait_seconds=30),
        ]
        graph = agent(lawyer, *script, tell)
    else:
        model = ScriptedModel(call("ask_agent", to="clerk", content="Is it signed?"), tell)
        graph = create_agent(model, [lawyer.ask_agent_tool(by)], checkpointer=InMemorySaver())
    async with MailboxWorker(echo(), agent="clerk", client=client), working(client, graph):
        answer = await client.request("lawyer", "Is the contract signed?")
    assert "1: Is it signed?" in answer.text
    if by == "mail":
        [mail] = json.loads(answer.text)["messages"]
        assert mail["untrusted_content"] == "1: Is it signed?"


async def test_a_run_whose_threads_share_an_inbox_leaves_it_to_the_worker(client, broker):
    with Mq9Toolkit(broker.url, agent="lawyer", inbox="agent") as toolkit:
        script = [call("fetch_messages", wait_seconds=0), tell] * len(USERS)
        await write_as_users(client)
        async with working(client, agent(toolkit, *script), concurrency=1):
            found = await answers(client)
    assert_nobody_reads_of_others(found)
    assert all("given to you one by one" in text for text in found.values())


@pytest.fixture
async def lawyer_url():
    """The URL of a server that knows who comes by it."""
    async with running(guard=TrustingGuard()) as server:
        yield url_for(server, "lawyer:x")


@pytest.mark.parametrize("name", ["dead", "answers", "questions"])
async def test_a_run_does_not_see_what_its_worker_keeps(lawyer_url, name):
    async with Mq9Client(lawyer_url) as client, Mq9Toolkit(lawyer_url, agent="lawyer") as toolkit:
        graph = agent(toolkit, call("query_messages", mail_address=f"lawyer.{name}"), tell)
        async with working(client, graph):
            answer = await client.request("lawyer", "Look around.")
        assert "not allowed" in answer.text
        assert (await client.mailbox_status(f"lawyer.{name}")).own


async def test_the_same_tools_outside_of_the_worker_read_the_mail_of_the_agent(client, lawyer):
    await write_as_users(client)
    graph = agent(lawyer, call("fetch_messages"), tell)
    said = await graph.ainvoke(
        {"messages": [("human", "Read.")]}, {"configurable": {"thread_id": "1"}}
    )
    assert all(f"secret of {user}" in said["messages"][-1].text for user in USERS)
