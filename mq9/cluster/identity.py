"""The identity of a cluster's log, in a bucket of its own.

A log may be removed by mistake. If gateways then created an empty one, mail would be lost without
an error. So the bucket keeps the identity, and a log is created once.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import api
from nats.js.kv import KeyValue

from mq9.clock import Clock, sleep
from mq9.cluster.jetstream import NAME, NO_CLUSTER, JetStreamLog
from mq9.cluster.log import REPLICAS
from mq9.errors import InvalidRequest, Unavailable

logger = logging.getLogger("mq9.broker")

BUCKET = f"{NAME}_LOG"
_KEY = "log"
_TIMEOUT_S = 10.0
_LOOKS = 3
_PAUSE_S = 1.0  # before the next look
_BEGUN = "begun "  # before the identity of a log that may not exist yet
_CURE = (
    "Stop all gateways. Restore the stream from a backup of NATS. Or begin a log with the newest "
    "snapshot: `mq9 cluster export FILE`, `mq9 cluster reset --yes`, `mq9 cluster import FILE`"
)
_FORM = re.compile(rf"({_BEGUN})?(.+)")


class Identity(NamedTuple):
    """The identity of a log.

    Attributes:
        text: The identity.
        is_begun: Whether the log may not exist yet, and is to be created.
        revision: The revision of the entry in the bucket.
    """

    text: str
    is_begun: bool
    revision: int


class Identities:
    """The bucket with the identity of the log."""

    def __init__(self, client: Client) -> None:
        self._jetstream = client.jetstream(timeout=_TIMEOUT_S)
        self._bucket: KeyValue | None = None

    async def get(self) -> Identity | None:
        """Return the identity; None if no log was created with one."""
        try:
            if self._bucket is None:
                self._bucket = await self._jetstream.key_value(BUCKET)
            entry = await self._bucket.get(_KEY)
        except (nats.js.errors.BucketNotFoundError, nats.js.errors.KeyNotFoundError):
            return None
        except (nats.errors.Error, TimeoutError) as error:
            raise Unavailable(f"the bucket {BUCKET} cannot be read: {error!r}") from error
        found = _FORM.fullmatch((entry.value or b"").decode("utf-8", "replace"))
        if found is None:
            raise InvalidRequest(f"cluster: the bucket {BUCKET} holds no identity of a log")
        return Identity(found[2], found[1] is not None, entry.revision or 0)

    async def put(self, text: str, former: Identity | None, *, is_begun: bool = False) -> Identity:
        """Store an identity in place of the former; return the one that another has stored."""
        value = f"{_BEGUN if is_begun else ''}{text}".encode()
        revision = 0 if former is None else former.revision
        try:
            if self._bucket is None:
                self._bucket = await self._open()
            revision = await self._bucket.update(_KEY, value, revision)
        except nats.js.errors.KeyWrongLastSequenceError:
            stored = await self.get()
            if stored is None:
                raise Unavailable(f"the bucket {BUCKET} was changed at the same time") from None
            return stored
        except (nats.errors.Error, TimeoutError) as error:
            raise Unavailable(f"the bucket {BUCKET} cannot be written: {error!r}") from error
        return Identity(text, is_begun, revision)

    async def _open(self) -> KeyValue:
        """Return the bucket, which is created if it is missing."""
        config = api.KeyValueConfig(
            BUCKET, description="The identity of the log of mq9", history=1, replicas=REPLICAS
        )
        try:
            return await self._jetstream.key_value(BUCKET)
        except nats.js.errors.BucketNotFoundError:
            pass
        try:
            return await self._jetstream.create_key_value(config)
        except nats.js.errors.APIError as error:
            if error.err_code != NO_CLUSTER:
                raise
            return await self._jetstream.create_key_value(config, replicas=1)


def new_identity() -> str:
    """Return the identity of a new log."""
    return secrets.token_hex(8)


async def found_log(
    log: JetStreamLog, identities: Identities, traces: Sequence[str], clock: Clock
) -> None:
    """Open the log, or create it if there never was one.

    Args:
        log: The log.
        identities: The bucket with its identity.
        traces: Other signs of a former log, for the error.
        clock: The clock of the pauses.

    Raises:
        InvalidRequest: The log was removed, or another one has taken its place.
    """
    known = await identities.get()  # before the log, which another gateway may create meanwhile
    exists = await log.open()
    if known is not None and not known.is_begun:
        for _ in range(_LOOKS):  # a server that has just started may not know the log yet
            if exists:
                break
            await sleep(clock, _PAUSE_S)
            exists = await log.open()
    if exists:
        if known is not None and known.text != log.identity:
            raise InvalidRequest(
                f"cluster: the stream {NAME} is not the log of this cluster: that was removed, and "
                f"another one was created. {_CURE}"
            )
        if known is None or known.is_begun:
            await identities.put(log.identity, known)
        return
    if known is None and not traces:
        known = await identities.put(new_identity(), None, is_begun=True)
    if known is None or not known.is_begun:
        signs = ", ".join([*traces, *([f"the bucket {BUCKET} has its identity"] if known else [])])
        raise InvalidRequest(
            f"cluster: the log of this cluster, the stream {NAME}, was removed: {signs}. {_CURE}"
        )
    await log.create(REPLICAS, known.text)
    logger.info("the log was created", extra={"identity": known.text})
    await identities.put(known.text, known)
