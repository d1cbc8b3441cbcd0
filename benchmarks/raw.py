"""The protocol spoken by hand, with nats-py: what there is to do without an SDK, and no more."""

from __future__ import annotations

import itertools
import secrets
from typing import Any

import orjson
from nats.aio.client import Client as NatsClient

from benchmarks.load import BODY

_TIMEOUT_S = 30
_CONSUMER = "bench"
_PROCESS = secrets.token_hex(6)  # what a server has seen of another process is no repetition
_numbers = itertools.count()


def _new_id() -> str:
    """Return an id as long as the SDK's."""
    return f"{_PROCESS}{next(_numbers):012x}"


async def ask(client: NatsClient, verb: str, body: dict[str, Any] | None = None) -> Any:
    """Make a request and return its reply.

    Raises:
        RuntimeError: It was refused.
    """
    message = await client.request(f"$mq9.AI.{verb}", orjson.dumps(body or {}), timeout=_TIMEOUT_S)
    return _read(message.data)


def _read(data: bytes) -> Any:
    reply = orjson.loads(data)
    if reply["error"]:
        raise RuntimeError(reply["error"])
    return reply


async def send(client: NatsClient, mail_address: str, body: bytes = BODY, **headers: str) -> Any:
    """Send a message with an idempotency id, as the SDK does; the reply."""
    message = await client.request(
        f"$mq9.AI.MSG.SEND.{mail_address}",
        body,
        timeout=_TIMEOUT_S,
        headers={"mq9-id": _new_id(), **headers},
    )
    return _read(message.data)


async def fetch(client: NatsClient, mail_address: str, group: str, num_msgs: int) -> Any:
    """Fetch for a group without waiting; the reply, with the id of the request."""
    request_id = _new_id()
    body = {
        "group_name": group,
        "deliver": "earliest",
        "request_id": request_id,
        "config": {"consumer": _CONSUMER, "max_wait_ms": 0, "num_msgs": num_msgs},
    }
    reply = await ask(client, f"MSG.FETCH.{mail_address}", body)
    return {**reply, "request_id": request_id}


async def ack(client: NatsClient, mail_address: str, group: str, fetched: Any) -> Any:
    """Confirm all that a reply to a FETCH holds; the reply."""
    body = {
        "group_name": group,
        "mail_address": mail_address,
        "msg_id": fetched["messages"][-1]["msg_id"],
        "consumer": _CONSUMER,
        "batch": fetched["batch"],
    }
    return await ask(client, f"MSG.ACK.{mail_address}", body)


async def release(client: NatsClient, mail_address: str, group: str, fetched: Any) -> None:
    """Undo a FETCH, so that the same messages can be fetched again."""
    body = {
        "group_name": group,
        "consumer": _CONSUMER,
        "request_id": fetched["request_id"],
    }
    await ask(client, f"MSG.RELEASE.{mail_address}", body)
