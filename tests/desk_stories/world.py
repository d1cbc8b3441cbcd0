"""Mail as in life: questions, conversations, agents, dead letters and what is stuck."""

import time

from mq9.models import CONVERSATION
from mq9.questions import TAG, Action, MailedQuestion

LETTER = Action(
    name="send_email",
    args={
        "to": "customer@example.com",
        "subject": "Your order of 12 May",
        "text": "Dear customer,\n\nthe tea has left our house today.\n\nThe shop",
    },
)
REASON = "ConnectError: the shop at shop.example did not answer within 30 s"


async def ensure(client, *names, **options):
    """Create mailboxes, unless they are there."""
    for name in names:
        await client.mailbox_create(name=name, renew=True, **options)


async def meet(stage):
    """Create the mailboxes of everybody, each by whom it belongs to."""
    for name in ("boss", "ada", "lawyer", "courier"):
        await ensure(await stage.client(name), name)


async def questions(stage, count):
    """Ask the boss for so many letters, as the lawyer's program would."""
    client = await stage.client("lawyer")
    for number in range(count):
        text = f"May I send letter {number}?"
        question = MailedQuestion(text=text, actions=(LETTER,)).to_json()
        asked = {"sender": "lawyer", "reply_to": "lawyer", "correlation_id": text}
        await client.send("boss", question, tags=[TAG], **asked)


async def long_talk(stage, count=300, id_="harbour"):
    """Let two agents talk about a matter."""
    names = ("ada", "courier")
    clients = [await stage.client(name) for name in names]
    for number in range(count):
        turn = number % 2
        await clients[turn].send(
            names[1 - turn],
            f"Line {number}: the ship is at berth {number % 7}.",
            sender=names[turn],
            reply_to=names[turn],
            headers={CONVERSATION: id_},
        )


async def dead_letters(stage, count=41):
    """Let orders to the courier die, all for one cause."""
    courier = await stage.client("courier")
    await ensure(courier, "orders", "orders.dead")
    ada = await stage.client("ada")
    for number in range(count):
        await ada.send("orders", f"Order {number}: tea to berth {number % 7}", sender="ada")
    for one in await courier.fetch("orders", group_name="orders", consumer="courier/1"):
        await courier.move(one, to="orders.dead", reason=REASON)


async def stuck(stage):
    """Leave a message with a holder that says nothing, one that fails, and one overdue; its id."""
    courier, ada = await stage.client("courier"), await stage.client("ada")
    await ensure(courier, "parcels", "invoices")
    held = await ada.send("parcels", "Parcel 7 to berth 3", sender="ada", reply_to="ada")
    await courier.fetch(
        "parcels", group_name="parcels", consumer="courier/2", lease_ms=86_400_000, max_wait_ms=0
    )
    await ada.send("invoices", "Invoice 1007", sender="ada")
    for one in await courier.fetch(
        "invoices", group_name="invoices", consumer="courier/1", max_wait_ms=0
    ):
        await courier.nack(one, delay=3_600, reason="Timeout: the bank did not answer in 10 s")
    await ada.send(
        "courier",
        "When does the ship leave?",
        sender="ada",
        reply_to="ada",
        correlation_id="ship",
        answer_by=time.time() + 1,
        tell_overdue=True,
    )
    return held


async def agents(stage):
    """Register agents that can do things."""
    for name, about in {
        "ada": "Answers customers of a tea shop in English and German.",
        "lawyer": "Writes letters to customers and to courts, and checks contracts.",
        "courier": "Carries parcels to ships in the harbour, and tells when they leave.",
    }.items():
        await (await stage.client(name)).agent_register(
            {"name": name, "mailbox": name, "description": about}
        )
