"""A client of a fake broker, with mailboxes of those who ask and answer; a server with users."""

import contextlib

import pytest

from mq9.server.users import User, Users
from tests.questions.graphs import Asking, asked, begin, working


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        for name in ("asker", "boss", "chief", "receipts", "other"):
            await client.mailbox_create(name=name)
        yield client


@pytest.fixture
def first_question(client):
    """Run a worker, begin a task, and give the question that its graph asks the boss."""

    @contextlib.asynccontextmanager
    async def ask(graph=None, **options):
        async with working(client, graph or Asking("May I?").graph, **options):
            await begin(client)
            [(message, _)] = await asked(client)
            yield message

    return ask


@pytest.fixture
def open_people(open_hosted):
    """Open a server that knows its users; a client of each, by their names."""

    async def open_them(*names):
        tokens = {name: (name or "other")[0].lower() for name in names}
        users = [User(token, agent=name) for name, token in tokens.items()]
        server = await open_hosted(guard=Users(users))
        return {name: await server.client(f"{token}@") for name, token in tokens.items()}

    return open_them
