"""The examples in the docstrings of the SDK run, against a broker with a garden."""

import ast
import inspect
import re
import textwrap

import pytest

from langchain_mq9 import Mq9Toolkit, Question
from mq9 import Mailbox, Message, Mq9Client, SyncMq9Client
from mq9.testing import FakeBroker, ManualClock

FENCED = re.compile(r"^Example:\n    ```python\n(.*?)^    ```$", re.MULTILINE | re.DOTALL)
CARD = {"name": "florist", "mailbox": "florist", "description": "Sells roses and tulips"}


def examples(kind):
    """The code of each method that has an example, with its name."""
    return [
        pytest.param(textwrap.dedent(code), id=name)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if name != "consume"  # whose consumer runs until it is stopped
        for code in FENCED.findall(inspect.getdoc(method) or "")
    ]


async def prepared(client):
    """Make the mailboxes that the examples use, and have somebody answer there."""
    await client.agent_register(CARD)
    await client.mailbox_create(name="garden")
    await client.send("garden", "Water the roses.", reply_to="florist.answers")
    await client.mailbox_create(name="florist.answers")
    return await client.consume("florist", lambda message: f"{message.text} Twelve.")


async def run(code, **names):
    program = compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found = eval(program, names)  # noqa: S307  # our own docstring
    if inspect.isawaitable(found):
        await found


@pytest.mark.parametrize("code", examples(Mq9Client))
async def test_an_example_of_the_client_runs(code):
    async with FakeBroker() as broker, broker.client() as client:
        consumer = await prepared(client)
        await run(code, client=client)
        assert not consumer.counters.failed


@pytest.mark.parametrize("code", examples(Message))
async def test_an_example_of_a_message_runs(code):
    async with FakeBroker() as broker, broker.client() as client:
        await prepared(client)
        [message] = await client.fetch("garden", group_name="helpers")
        await run(code, message=message)


@pytest.mark.parametrize("code", [*examples(FakeBroker), *examples(ManualClock)])
async def test_an_example_of_the_fake_broker_runs(code):
    async with FakeBroker() as broker, broker.client() as client:
        await prepared(client)
        await run(code, broker=broker, clock=broker.clock, client=client)


def test_most_used_methods_have_examples():
    with_examples = {one.id for one in examples(Mq9Client)}
    assert {"send", "fetch", "ack", "query", "request", "reply", "gather"} <= with_examples
    assert with_examples == {one.id for one in examples(SyncMq9Client)}


@pytest.mark.parametrize("code", examples(SyncMq9Client))
def test_an_example_of_the_blocking_client_runs(code, tmp_path):
    with SyncMq9Client(f"sqlite:///{tmp_path}/mail.db") as client:
        consumer = client.run(prepared)
        exec(compile(code, "example", "exec"), {"client": client})  # noqa: S102  # our own
        client.run(lambda _client: consumer.stop())


@pytest.mark.parametrize("code", examples(Mailbox))
def test_an_example_of_the_mailbox_runs(code, tmp_path):
    with Mailbox(f"sqlite:///{tmp_path}/mail.db") as mailbox:
        mailbox.create(name="garden", public=True)
        mailbox.send("garden", "Water the roses.")
        exec(compile(code, "example", "exec"), {"mailbox": mailbox})  # noqa: S102  # our own


@pytest.mark.parametrize("code", examples(Mq9Toolkit))
def test_an_example_of_the_toolkit_runs(code, tmp_path):
    url = f"sqlite:///{tmp_path}/mail.db"
    with SyncMq9Client(url) as client, Mq9Toolkit(url, agent="planner") as toolkit:
        consumer = client.run(prepared)
        exec(compile(code, "example", "exec"), {"toolkit": toolkit, "Question": Question})  # noqa: S102  # our own
        client.run(lambda _client: consumer.stop())
