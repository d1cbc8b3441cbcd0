"""The JSON of every request: one class each, checked alike when made and when read.

A request that exists is valid. Fields that hold their default are left out on the wire; unknown
fields are ignored when reading.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import orjson

from mq9.errors import InvalidRequest
from mq9.models import Deliver
from mq9.protocol import checks
from mq9.protocol.checked import Checked, given, needed
from mq9.protocol.checks import (
    MAX_MSG_ID,
    MAX_SECONDS,
    MAX_UNIX_SECONDS,
    optional,
    otherwise,
    whole,
)

DEFAULT_LEASE_MS = 60_000
MAX_LEASE_MS = 86_400_000
DEFAULT_MAX_BYTES = 4 * 1024 * 1024
DEFAULT_LIMIT = 100  # messages of a QUERY
MAX_REASON = 1_024  # characters
MAX_NESTING = 100  # of objects and lists; writers and readers of JSON give up somewhere above

_msg_id = whole(0, MAX_MSG_ID)
_lease_ms = whole(1_000, MAX_LEASE_MS)
_max_bytes = whole(1, 64 * 1024 * 1024)
_count = whole(1, 1_000)


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
    if _is_nested_deeper(data, MAX_NESTING):
        raise InvalidRequest(f"payload: the JSON is nested more than {MAX_NESTING} levels deep")
    return data


def _is_nested_deeper(data: Any, most: int) -> bool:
    level = [data]
    for _ in range(most + 1):
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return False
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Body(Checked):
    """The JSON object of a request."""

    # Names of fields that travel inside the object "config".
    CONFIG: ClassVar[frozenset[str]] = frozenset()
    # Names of fields that travel with their default too, since other brokers have another.
    ALWAYS: ClassVar[frozenset[str]] = frozenset()

    def encode(self) -> bytes:
        """Return the request as JSON."""
        body: dict[str, Any] = {}
        config: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default or field.name in self.ALWAYS:
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
        values = {}
        for field in dataclasses.fields(cls):
            source = config if field.name in cls.CONFIG else data
            value = source.get(field.name)
            if not checks.is_absent(value):
                values[field.name] = value
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMailbox(Body):
    """MAILBOX.CREATE."""

    name: str | None = given(None, optional(checks.mail_address))
    ttl: int = given(0, otherwise(0, whole(0, MAX_SECONDS)))
    desc: str = given("", checks.prose(1_024))
    public: bool = given(False, checks.flag)
    prefix: str | None = given(None, optional(checks.mail_address))
    renew: bool = given(False, checks.flag)

    def __post_init__(self) -> None:
        """Check every field, and that a name and a prefix are not both given."""
        Checked.__post_init__(self)
        if self.name is not None and self.prefix is not None:
            raise InvalidRequest(
                f"prefix: {self.prefix!r} goes with a generated name, not with one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxStatusRequest(Body):
    """MAILBOX.STATUS."""

    group_name: str | None = given(None, optional(checks.header_text))
    msg_id: int | None = given(None, optional(_msg_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPublic(Body):
    """PUBLIC.LIST."""

    after: str | None = given(None, optional(checks.mail_address))


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantMailbox(Body):
    """MAILBOX.GRANT."""

    readers: tuple[str, ...] = needed(checks.agents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Body):
    """MSG.FETCH."""

    CONFIG: ClassVar[frozenset[str]] = frozenset(
        {"num_msgs", "max_bytes", "max_wait_ms", "lease_ms", "consumer", "redeliver_own"}
    )
    ALWAYS: ClassVar[frozenset[str]] = frozenset({"deliver"})

    group_name: str | None = given(None, optional(checks.header_text))
    deliver: Deliver = given(Deliver.EARLIEST, otherwise(Deliver.EARLIEST, checks.member(Deliver)))
    from_time: int | None = given(None, optional(whole(0, MAX_UNIX_SECONDS)))
    from_id: int | None = given(None, optional(_msg_id))
    force_deliver: bool = given(False, checks.flag)
    request_id: str | None = given(None, optional(checks.header_text))
    num_msgs: int = given(100, _count)
    max_bytes: int = given(DEFAULT_MAX_BYTES, _max_bytes)
    max_wait_ms: int = given(500, whole(0, 60_000))
    lease_ms: int = given(DEFAULT_LEASE_MS, _lease_ms)
    consumer: str | None = given(None, optional(checks.header_text))
    redeliver_own: bool = given(True, checks.flag)

    def __post_init__(self) -> None:
        """Check every field, and that a start by time or id says which."""
        Checked.__post_init__(self)
        if self.deliver is Deliver.FROM_TIME and self.from_time is None:
            raise InvalidRequest("from_time: needed with deliver=from_time")
        if self.deliver is Deliver.FROM_ID and self.from_id is None:
            raise InvalidRequest("from_id: needed with deliver=from_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Body):
    """MSG.ACK."""

    group_name: str = needed(checks.header_text)
    mail_address: str | None = given(None, optional(checks.mail_address))
    msg_id: int = needed(_msg_id)
    consumer: str | None = given(None, optional(checks.header_text))
    batch: str | None = given(None, optional(checks.header_text))
    individual: bool = given(False, checks.flag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nack(Body):
    """MSG.NACK."""

    group_name: str = needed(checks.header_text)
    msg_id: int = needed(_msg_id)
    consumer: str | None = given(None, optional(checks.header_text))
    batch: str | None = given(None, optional(checks.header_text))
    delay_ms: int = given(0, otherwise(0, whole(0, MAX_LEASE_MS)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Body):
    """MSG.MOVE."""

    group_name: str = needed(checks.header_text)
    msg_id: int = needed(_msg_id)
    consumer: str | None = given(None, optional(checks.header_text))
    batch: str | None = given(None, optional(checks.header_text))
    to: str = needed(checks.mail_address)
    reason: str | None = given(None, optional(checks.prose(MAX_REASON)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend(Body):
    """MSG.EXTEND."""

    group_name: str = needed(checks.header_text)
    consumer: str | None = given(None, optional(checks.header_text))
    msg_ids: tuple[int, ...] = needed(checks.msg_ids)
    lease_ms: int = given(DEFAULT_LEASE_MS, _lease_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Body):
    """MSG.RELEASE."""

    group_name: str = needed(checks.header_text)
    consumer: str | None = given(None, optional(checks.header_text))
    request_id: str = needed(checks.header_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Body):
    """MSG.QUERY."""

    key: str | None = given(None, optional(checks.header_text))
    tags: tuple[str, ...] = given((), checks.tags)
    since: int | None = given(None, optional(whole(0, MAX_UNIX_SECONDS)))
    limit: int = given(DEFAULT_LIMIT, otherwise(DEFAULT_LIMIT, _count))
    msg_id: int | None = given(None, optional(_msg_id))
    max_bytes: int = given(DEFAULT_MAX_BYTES, _max_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Body):
    """What the broker reads of AGENT.REGISTER; the whole object is kept as it came."""

    name: str | None = given(None, optional(checks.agent_name))
    mailbox: str | None = given(None, optional(checks.mail_address))
    ttl: int = given(0, otherwise(0, whole(0, MAX_SECONDS)))

    def __post_init__(self) -> None:
        """Check every field, and that there is something to register."""
        Checked.__post_init__(self)
        if self.name is None and self.mailbox is None:
            raise InvalidRequest("name: an agent needs a name or a mailbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unregister(Body):
    """AGENT.UNREGISTER, and what names the agent in AGENT.REPORT."""

    name: str | None = given(None, optional(checks.agent_name))
    mailbox: str | None = given(None, optional(checks.mail_address))

    def __post_init__(self) -> None:
        """Check every field, and that an agent is named."""
        Checked.__post_init__(self)
        if self.name is None and self.mailbox is None:
            raise InvalidRequest("name: give the agent's name or its mailbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Discover(Body):
    """AGENT.DISCOVER."""

    text: str | None = given(None, optional(checks.prose(4_096)))
    semantic: str | None = given(None, optional(checks.prose(4_096)))
    min_score: float | None = given(None, optional(checks.number(0, 2)))
    limit: int = given(20, _count)
    page: int = given(1, whole(1, 1_000_000))
