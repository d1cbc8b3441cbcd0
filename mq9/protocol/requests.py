"""The JSON of every request: one class each, checked alike when made and when read.

A request that exists is valid. Fields that hold their default are left out on the wire; unknown
fields are ignored when reading.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import orjson

from mq9.errors import InvalidRequest
from mq9.models import Deliver
from mq9.protocol import checks
from mq9.protocol.checks import (
    MAX_MSG_ID,
    MAX_SECONDS,
    MAX_UNIX_SECONDS,
    Check,
    optional,
    whole,
)

DEFAULT_LEASE_MS = 60_000
MAX_LEASE_MS = 86_400_000

T = TypeVar("T")

_msg_id = whole(0, MAX_MSG_ID)
_lease_ms = whole(1_000, MAX_LEASE_MS)
_max_bytes = whole(1, 64 * 1024 * 1024)
_count = whole(1, 1_000)


def _field(default: T, check: Check) -> T:
    return dataclasses.field(default=default, metadata={"check": check})


def parse_object(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in ``payload``; an empty payload is the empty object.

    Raises:
        InvalidRequest: It is not a JSON object.
    """
    if not payload:
        return {}
    try:
        data = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"payload: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidRequest(f"payload: {checks.shown(data)} is not a JSON object")
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The JSON object of a request."""

    # Names of fields that travel inside the object "config".
    CONFIG: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        """Check every field, and put the value to use in its place."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            checked = field.metadata["check"](field.name, value)
            if checked is not value:
                object.__setattr__(self, field.name, checked)

    def encode(self) -> bytes:
        """Return the request as JSON."""
        body: dict[str, Any] = {}
        config: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                (config if field.name in self.CONFIG else body)[field.name] = value
        if config:
            body["config"] = config
        return orjson.dumps(body)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a request from JSON.

        Raises:
            InvalidRequest: It is not JSON, or a field is wrong.
        """
        data = parse_object(payload)
        config = checks.json_object("config", data.get("config")) if cls.CONFIG else {}
        given = {}
        for field in dataclasses.fields(cls):
            source = config if field.name in cls.CONFIG else data
            if field.name in source:
                given[field.name] = source[field.name]
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMailbox(Body):
    """MAILBOX.CREATE."""

    name: str | None = _field(None, optional(checks.mail_address))
    ttl: int = _field(0, lambda name, value: whole(0, MAX_SECONDS)(name, value or 0))
    desc: str = _field("", checks.prose(1_024))
    public: bool = _field(False, checks.flag)
    prefix: str | None = _field(None, optional(checks.mail_address))
    renew: bool = _field(False, checks.flag)

    def __post_init__(self) -> None:
        """Check every field, and that a name and a prefix are not both given."""
        Body.__post_init__(self)
        if self.name is not None and self.prefix is not None:
            raise InvalidRequest(
                f"prefix: {self.prefix!r} goes with a generated name, not with one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxStatusRequest(Body):
    """MAILBOX.STATUS."""

    group_name: str | None = _field(None, optional(checks.header_text))
    msg_id: int | None = _field(None, optional(_msg_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Body):
    """MSG.FETCH."""

    CONFIG: ClassVar[frozenset[str]] = frozenset(
        {"num_msgs", "max_bytes", "max_wait_ms", "lease_ms", "consumer", "redeliver_own"}
    )

    group_name: str | None = _field(None, optional(checks.header_text))
    deliver: Deliver = _field(
        Deliver.LATEST,
        lambda name, value: checks.member(Deliver)(name, value or Deliver.LATEST),
    )
    from_time: int | None = _field(None, optional(whole(0, MAX_UNIX_SECONDS)))
    from_id: int | None = _field(None, optional(_msg_id))
    force_deliver: bool = _field(False, checks.flag)
    request_id: str | None = _field(None, optional(checks.header_text))
    num_msgs: int = _field(100, _count)
    max_bytes: int = _field(4 * 1024 * 1024, _max_bytes)
    max_wait_ms: int = _field(500, whole(0, 60_000))
    lease_ms: int = _field(DEFAULT_LEASE_MS, _lease_ms)
    consumer: str | None = _field(None, optional(checks.header_text))
    redeliver_own: bool = _field(True, checks.flag)

    def __post_init__(self) -> None:
        """Check every field, and that a start by time or id says which."""
        Body.__post_init__(self)
        if self.deliver is Deliver.FROM_TIME and self.from_time is None:
            raise InvalidRequest("from_time: needed with deliver=from_time")
        if self.deliver is Deliver.FROM_ID and self.from_id is None:
            raise InvalidRequest("from_id: needed with deliver=from_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Body):
    """MSG.ACK."""

    group_name: str = _field("", checks.header_text)
    mail_address: str | None = _field(None, optional(checks.mail_address))
    msg_id: int = _field(-1, _msg_id)
    consumer: str | None = _field(None, optional(checks.header_text))
    batch: str | None = _field(None, optional(checks.header_text))
    individual: bool = _field(False, checks.flag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nack(Body):
    """MSG.NACK."""

    group_name: str = _field("", checks.header_text)
    msg_id: int = _field(-1, _msg_id)
    consumer: str | None = _field(None, optional(checks.header_text))
    batch: str | None = _field(None, optional(checks.header_text))
    delay_ms: int = _field(0, lambda name, value: whole(0, MAX_LEASE_MS)(name, value or 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend(Body):
    """MSG.EXTEND."""

    group_name: str = _field("", checks.header_text)
    consumer: str | None = _field(None, optional(checks.header_text))
    msg_ids: tuple[int, ...] = _field((), checks.msg_ids)
    lease_ms: int = _field(DEFAULT_LEASE_MS, _lease_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Body):
    """MSG.QUERY."""

    key: str | None = _field(None, optional(checks.header_text))
    tags: tuple[str, ...] = _field((), checks.tags)
    since: int | None = _field(None, optional(whole(0, MAX_UNIX_SECONDS)))
    limit: int = _field(100, lambda name, value: 100 if value is None else _count(name, value))
    msg_id: int | None = _field(None, optional(_msg_id))
    max_bytes: int = _field(4 * 1024 * 1024, _max_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Body):
    """What the broker reads of AGENT.REGISTER; the whole object is kept as it came."""

    name: str | None = _field(None, optional(checks.agent_name))
    mailbox: str | None = _field(None, optional(checks.mail_address))
    ttl: int = _field(0, lambda name, value: whole(0, MAX_SECONDS)(name, value or 0))

    def __post_init__(self) -> None:
        """Check every field, and that there is something to register."""
        Body.__post_init__(self)
        if self.name is None and self.mailbox is None:
            raise InvalidRequest("name: an agent needs a name or a mailbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unregister(Body):
    """AGENT.UNREGISTER, and what names the agent in AGENT.REPORT."""

    name: str | None = _field(None, optional(checks.agent_name))
    mailbox: str | None = _field(None, optional(checks.mail_address))

    def __post_init__(self) -> None:
        """Check every field, and that an agent is named."""
        Body.__post_init__(self)
        if self.name is None and self.mailbox is None:
            raise InvalidRequest("name: give the agent's name or its mailbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Discover(Body):
    """AGENT.DISCOVER."""

    text: str | None = _field(None, optional(checks.prose(4_096)))
    semantic: str | None = _field(None, optional(checks.prose(4_096)))
    limit: int = _field(20, _count)
    page: int = _field(1, whole(1, 1_000_000))
