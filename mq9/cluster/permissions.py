"""NATS permissions of a gateway, each of which is tried before it serves.

A trial has no effect. Requests to JetStream are not valid JSON, publications name a stream that
does not exist, or go where nobody is subscribed. Without the trials, a gateway that lacks one
permission seems to work until it needs that: on the day of a restore, for example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api

from mq9.cluster.identity import BUCKET
from mq9.cluster.jetstream import NAME
from mq9.cluster.reply_subjects import GATEWAY_INBOX
from mq9.cluster.snapshots import STORE
from mq9.errors import Forbidden
from mq9.protocol import subjects

_CHECK = "mq9check"
_NO_JSON = b"{"
_NO_STREAM = {api.Header.EXPECTED_STREAM.value: "no-stream-of-mq9"}


class Trial(NamedTuple):
    """A permission, and a subject that it covers."""

    permission: str
    subject: str


def _api(kind: str, stream: str, name: str = "") -> Trial:
    subject = f"$JS.API.{kind}.{stream}"
    return Trial(f"{subject}.*", f"{subject}.{name}") if name else Trial(subject, subject)


_OBJECTS = f"OBJ_{STORE}"
_KEYS = f"KV_{BUCKET}"
_BUCKET_KEY = f"$KV.{BUCKET}.log"
PUBLISH = (
    Trial(f"{NAME}.append.*", f"{NAME}.append.{_CHECK}"),
    Trial(f"{NAME}.gateway.>", f"{NAME}.gateway.{_CHECK}"),
    Trial(_BUCKET_KEY, _BUCKET_KEY),
    _api("STREAM.CREATE", _KEYS),
    _api("STREAM.INFO", _KEYS),
    _api("STREAM.MSG.GET", _KEYS),
    _api("STREAM.CREATE", NAME),
    _api("STREAM.INFO", NAME),
    _api("STREAM.PURGE", NAME),
    _api("CONSUMER.CREATE", NAME, _CHECK),
    _api("DIRECT.GET", NAME),
    Trial(f"$O.{STORE}.>", f"$O.{STORE}.{_CHECK}"),
    Trial(f"$JS.FC.{_OBJECTS}.>", f"$JS.FC.{_OBJECTS}.{_CHECK}"),
    Trial("$JS.API.STREAM.NAMES", "$JS.API.STREAM.NAMES"),
    _api("STREAM.CREATE", _OBJECTS),
    _api("STREAM.INFO", _OBJECTS),
    _api("STREAM.PURGE", _OBJECTS),
    _api("STREAM.MSG.GET", _OBJECTS),
    _api("CONSUMER.CREATE", _OBJECTS),
)
SUBSCRIBE = (
    Trial(f"{subjects.ROOT}>", f"{subjects.ROOT}{_CHECK}"),
    Trial(f"{NAME}.gateways", f"{NAME}.gateways"),
    Trial(f"{NAME}.snapshot", f"{NAME}.snapshot"),
    Trial(f"{NAME}.gateway.>", f"{NAME}.gateway.{_CHECK}"),
    Trial(f"{GATEWAY_INBOX}.>", f"{GATEWAY_INBOX}.{_CHECK}"),
)


async def check(client: Client, reply_prefixes: Sequence[str], refusals: Sequence[str]) -> None:
    """Try each permission; raise Forbidden that names the missing ones.

    Args:
        client: The connection of the gateway.
        reply_prefixes: The beginnings of subjects to which it publishes replies.
        refusals: What the server has refused, which grows during the trials.
    """
    replies = [Trial(f"{prefix}>", f"{prefix}{_CHECK}") for prefix in reply_prefixes]
    publish = [*PUBLISH, *replies]
    for one in publish:
        await client.publish(one.subject, _NO_JSON, headers=_NO_STREAM)
    for one in SUBSCRIBE:
        subscription = await client.subscribe(one.subject, cb=_ignore)
        await subscription.unsubscribe()
    for _ in range(2):  # the first PING may overtake what is still in the buffer of nats-py
        await client.flush()
    # The client reports what it has refused in small letters.
    missing = [
        f"{verb} {one.permission}"
        for verb, trials in (("publish", publish), ("subscribe", SUBSCRIBE))
        for one in trials
        if f"{verb} {one.subject}".lower() in refusals
    ]
    if missing:
        raise Forbidden(
            f"cluster: the NATS user of this gateway lacks permissions: {', '.join(missing)}"
        )


async def _ignore(_message: Msg) -> None:
    """Take a message that somebody sends during a trial."""
