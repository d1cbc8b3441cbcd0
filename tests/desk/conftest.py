"""A broker with a person who is asked, and their desk."""

import pytest

from mq9.questions import RECEIPTS, TAG, Action, MailedQuestion
from tests.desk.desks import opened

LETTER = Action(name="send_email", args={"to": "customer", "text": "We sue.", "copies": 2})


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        for name in ("boss", "lawyer"):
            await client.mailbox_create(name=name)
        yield client


@pytest.fixture
async def desk(broker, client):
    async with opened(broker) as browser:
        yield browser


@pytest.fixture
def ask(client):
    """Mail a question to a mailbox; its id."""

    async def ask(text="Send it?", *actions, to="boss", receipts=False, expires=None, **options):
        question = MailedQuestion(text=text, actions=actions, expires=expires)
        headers = {RECEIPTS: "yes"} if receipts else None
        number = await client.send(
            to,
            question.to_json(),
            **{"sender": "lawyer", "reply_to": "lawyer", "correlation_id": text} | options,
            tags=[TAG],
            headers=headers,
        )
        return str(number)

    return ask


@pytest.fixture
def answers(client):
    """Take the answers that the asker got, as JSON or text."""

    async def taken():
        found = await client.fetch("lawyer", group_name="lawyer", max_wait_ms=0)
        for one in found:
            await one.ack()
        return [one.json() if one.payload[:1] in b"{[" else one.text for one in found]

    return taken
