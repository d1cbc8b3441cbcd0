"""Answers and messages of JetStream, read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import nats.errors
import orjson
from nats.aio.msg import Msg

from mq9.cluster.log import Logged

_LEADING_NS = 3_000_000_000  # others elect a leader 4 s or more after they heard one
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class RefusedError(nats.errors.Error):
    """JetStream answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code = int(error.get("err_code", 0))
        self.description = str(error.get("description", error))
        super().__init__(self.description)


def answer_of(reply: Msg) -> dict[str, Any]:
    """Return the answer of JetStream; raise its error."""
    try:
        answer = orjson.loads(reply.data)
    except orjson.JSONDecodeError as error:
        raise nats.errors.Error(f"not JSON: {error}") from None
    if "error" in answer:
        raise RefusedError(answer["error"])
    return dict(answer)


def leads(cluster: dict[str, Any] | None) -> bool:
    """Return whether the server that reports this certainly leads the stream.

    A leader that is cut off from the others still answers as the leader for some 20 s, and then as
    a server that knows no leader, with its state from before.
    """
    if cluster is None:
        return True  # there is no other server
    others = cluster.get("replicas") or []
    # 0: it has not heard from this one at all.
    heard = sum(0 < other["active"] < _LEADING_NS for other in others)
    return bool(cluster.get("leader")) and 2 * (heard + 1) > len(others) + 1


def logged_of(message: Msg) -> Logged:
    """Return a record from the reply to a direct get."""
    headers = message.headers or {}
    now_ms = milliseconds(headers["Nats-Time-Stamp"])
    return Logged(int(headers["Nats-Sequence"]), now_ms, message.data)


def delivered_of(message: Msg) -> Logged:
    """Return a record from the delivery of a consumer."""
    # $JS.ACK.….<delivered>.<sequence in the stream>.<of the consumer>.<nanoseconds>.<pending>
    *_, sequence, _, stamp, _ = message.reply.split(".")
    return Logged(int(sequence), _as_milliseconds(int(stamp) // 1000), message.data)


def milliseconds(stamp: str) -> int:
    """Return an instant of JetStream as Unix milliseconds."""
    return _as_milliseconds((datetime.fromisoformat(stamp) - _EPOCH) // _MICROSECOND)


def _as_milliseconds(microseconds: int) -> int:
    """Round an instant as every release does, so that all gateways have the same state."""
    return int(microseconds / 1_000_000 * 1_000)
