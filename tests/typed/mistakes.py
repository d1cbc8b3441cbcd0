"""Mistakes of a user's that mypy refuses, each where the comment names its error."""

from __future__ import annotations

from langchain_mq9 import Mq9Toolkit
from mq9 import ClientOptions, FetchResult, Message, Mq9Client, SyncMessage, SyncMq9Client

OPTIONS: ClientOptions = {"request_timeout": "1.5"}  # expected: typeddict-item
MORE: ClientOptions = {"timeout": 1.5}  # expected: typeddict-unknown-key


def handle_text(text: str) -> None:
    print(text)


def handle_blocking(message: SyncMessage) -> None:
    message.ack()


async def work(client: Mq9Client, message: Message) -> None:
    message.ack()  # expected: unused-coroutine
    await client.open("nats://localhost")  # expected: call-arg
    await Mq9Client.connect(5)  # expected: arg-type
    await Mq9Client.connect("memory://x", timeout=5)  # expected: call-arg
    await client.ack(message, "g")  # expected: call-overload
    await client.ack(message, batch="b")  # expected: call-overload
    await client.ack("inbox", "g")  # expected: call-overload
    await client.ack(message.msg_id)  # expected: call-overload
    await client.nack(message, delay_ms=5)  # expected: call-overload
    await client.nack("inbox", "g", 0, delay=5)  # expected: call-overload
    await client.extend(message, lease_ms=5_000)  # expected: call-overload
    await client.extend("inbox", "g", 0)  # expected: call-overload
    await client.move(message)  # expected: call-overload
    await message.nack(delay_ms=5)  # expected: call-arg
    await message.extend(lease="60")  # expected: arg-type
    await message.reply(5)  # expected: arg-type
    message.payload = b""  # expected: misc
    one: Message = await client.fetch("inbox")  # expected: assignment
    blocking: FetchResult[SyncMessage] = await client.fetch("inbox")  # expected: assignment
    await client.consume("inbox", handle_text)  # expected: arg-type
    await client.consume("inbox", handle_blocking)  # expected: arg-type
    print(one, blocking)


async def block(client: SyncMq9Client, message: SyncMessage) -> None:
    await message.ack()  # expected: misc
    await client.send("inbox", "x")  # expected: misc
    client.ack(message, "g")  # expected: call-overload
    client.consume("inbox", handle_text)  # expected: arg-type
    asynchronous: list[Message] = client.fetch("inbox")  # expected: assignment
    print(asynchronous)


def give_tools() -> None:
    Mq9Toolkit("memory://x", request_timeout="1.0")  # expected: arg-type
    Mq9Toolkit("memory://x", request_timeuot=1.0)  # expected: call-arg
