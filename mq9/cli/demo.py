"""``mq9 demo``: two agents on one broker. One of them crashes at work."""

from __future__ import annotations

from collections.abc import Callable

from mq9.broker.asked import BrokerSession
from mq9.broker.embedded import EmbeddedBroker
from mq9.cli.program import CommandCall
from mq9.client.client import Mq9Client
from mq9.clock import Clock, SystemClock
from mq9.transport.direct import DirectTransport

_LEASE_MS = 1_000
_SECOND_WAIT_MS = 30_000  # the second fetch waits for the first one's lease to end
Say = Callable[[str], None]


async def demo(call: CommandCall) -> int:
    """Show two agents; one crashes, and no message is lost."""
    steps: list[str] = []

    def say(step: str) -> None:
        steps.append(step)
        call.out.say(step)

    await play(say, SystemClock())
    if call.out.as_json:
        call.out.show({"steps": steps})
    return 0


async def play(say: Say, clock: Clock) -> None:
    """Run the demo."""
    broker = EmbeddedBroker.in_memory(clock)

    def agent(name: str) -> Mq9Client:
        return Mq9Client(transport=DirectTransport(broker, BrokerSession(name, name)))

    try:
        async with agent("planner") as planner, agent("translator") as translator:
            await _play(say, planner, translator)
    finally:
        await broker.close()


async def _play(say: Say, planner: Mq9Client, translator: Mq9Client) -> None:
    inbox = await translator.mailbox_create(name="translator")
    await translator.agent_register(
        {"name": "translator", "mailbox": inbox, "description": "Translates English and French"}
    )
    say("translator registers its skills and its mailbox, and goes offline")

    [found] = await planner.agent_discover(text="french")
    answers = await planner.mailbox_create(prefix="planner")
    sent = await planner.send(found["mailbox"], "Good morning", reply_to=answers)
    say(f"planner searches for 'french', finds {found.match.name} and sends message {sent}: stored")

    [held] = await translator.fetch(
        inbox, group_name="workers", deliver="earliest", lease_ms=_LEASE_MS, consumer="first"
    )
    say(f"translator comes back and fetches message {held.msg_id}: leased for 1 s")
    say("translator crashes before it has acked")

    [again] = await translator.fetch(
        inbox, group_name="workers", max_wait_ms=_SECOND_WAIT_MS, consumer="second"
    )
    say(
        f"its successor fetches after the lease: message {again.msg_id} again, "
        f"delivery {again.delivery_count}"
    )
    await translator.reply(again, "Bonjour")
    await translator.ack(inbox, "workers", again.msg_id, consumer="second")
    say("it answers and acks: the message is done")

    [answer] = await planner.fetch(answers, group_name="planner", deliver="earliest")
    await planner.ack(answers, "planner", answer.msg_id)
    say(f"planner fetches the answer from {answer.sender}, verified by the broker: {answer.text}")
