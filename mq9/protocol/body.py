"""The common part of all requests: fields, checks and encoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import orjson

from mq9.errors import InvalidRequest
from mq9.protocol import checks
from mq9.protocol.checks import Check, is_absent, optional, shown
from mq9.protocol.headers import BASE64, RequestHeaders

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

_fields_of: dict[type[Body[Any]], _Fields] = {}

MAX_NESTING = 100  # of objects and lists; JSON libraries fail somewhere above


class Named(NamedTuple):
    """The names after the verb in the subject of a request."""

    mail_address: str = ""
    msg_id: int | None = None
    priority: str = ""  # in older generations, of the message


class Request(Generic[R_co]):
    """A request to a broker, with an outcome of the type ``R_co``."""

    __slots__ = ()
    # Of authenticated agents, only the creator and the readers of the mailbox may make it.
    is_private: ClassVar[bool] = False
    # It takes no messages, so agents that may only look may make it.
    only_looks: ClassVar[bool] = False
    # A read: it is refused if it needs more steps than a read may.
    is_bounded: ClassVar[bool] = True
    # A read: it usually needs few steps and returns few values.
    is_brief: ClassVar[bool] = False
    # Its outcome has messages, which a reply may encode as base64.
    reads_messages: ClassVar[bool] = False
    # Its outcome may name mailboxes that the request does not name.
    lists_addresses: ClassVar[bool] = False
    # It is a sign of life of the agent that the client works for.
    shows_life: ClassVar[bool] = False

    @property
    def claimed_agent(self) -> str | None:
        """The agent that the client says it works for."""
        return None


def given(default: T, check: Check, **metadata: Any) -> T:
    """Declare an optional field. ``check`` is also called for its default."""
    return dataclasses.field(default=default, metadata={"check": check, **metadata})


def needed(check: Check) -> Any:
    """Declare a field that must be present."""

    def present(name: str, value: Any) -> Any:
        if is_absent(value):
            raise InvalidRequest(f"{name}: must be given, not {shown(value)}")
        return check(name, value)

    return dataclasses.field(default=None, metadata={"check": present, "needed": True})


class _Fields(NamedTuple):
    """The fields of a kind of request, by name."""

    defaults: dict[str, Any]
    # The check of each, and its default if that needs no check.
    checks: dict[str, tuple[Check, object]]
    needed: tuple[str, ...]  # those that must be present


@dataclass(frozen=True, kw_only=True)
class Body(Request[R_co]):
    """A request whose payload is a JSON object.

    Every instance is valid: ``__init__`` raises InvalidRequest with the field and value otherwise.
    Fields with their default are left out on the wire. Unknown fields are ignored.

    An instance has an attribute of its own only for the fields that were passed. The others are
    class attributes with the default. So an instance costs only as much as the fields that it sets.
    """

    # Names of fields that are sent inside the object "config".
    CONFIG: ClassVar[frozenset[str]] = frozenset()
    # Names of fields that are also sent with their default, because other brokers have another.
    ALWAYS: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        """Use this class's ``__init__`` for every subclass: ``dataclass`` keeps an existing one."""
        cls.__init__ = Body.__init__  # type: ignore[method-assign]  # each takes its own fields

    def __init__(self, **given: Any) -> None:
        """Check the fields that are passed, and store the checked values."""
        fields = _fields(type(self))
        for name in fields.needed:
            given.setdefault(name)
        for name, value in given.items():
            if name not in fields.checks:
                kind = type(self).__name__
                raise TypeError(f"{kind}.__init__() got an unexpected keyword argument {name!r}")
            check, default = fields.checks[name]
            if value is not default:
                given[name] = check(name, value)
        vars(self).update(given)
        self.check_together()

    def check_together(self) -> None:
        """Raise InvalidRequest for fields that contradict each other."""

    def encode(self) -> bytes:
        """Return the payload."""
        body: dict[str, Any] = {}
        config: dict[str, Any] = {}
        defaults = _fields(type(self)).defaults
        for name, default in defaults.items():
            value = getattr(self, name)
            if value != default or name in self.ALWAYS:
                (config if name in self.CONFIG else body)[name] = value
        if config:
            body["config"] = config
        return orjson.dumps(body) if defaults else b""

    def encode_headers(self) -> list[tuple[str, str]]:
        """Return the headers."""
        return [BASE64] if self.reads_messages else []

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a request from its payload; a request without fields ignores it."""
        fields = _fields(cls).defaults
        data = parse_object(payload) if fields else {}
        config = checks.json_object("config", data.get("config")) if cls.CONFIG else {}
        values = {}
        for name in fields:
            source = config if name in cls.CONFIG else data
            value = source.get(name)
            if not is_absent(value):
                values[name] = value
        return cls(**values)

    @classmethod
    def read(cls, payload: bytes, headers: RequestHeaders, msg_id: int | None) -> Self:
        """Read a request from its payload, its headers and the message in its subject."""
        return cls.decode(payload)

    @property
    def subject_msg_id(self) -> int | None:
        """The message in the subject; None if there is none."""
        return None

    @property
    def other_address(self) -> str | None:
        """The mailbox that it names in addition to the one in the subject, or None."""
        return None

    @property
    def overdue_address(self) -> str | None:
        """The mailbox that gets the broker's notice of an overdue answer, or None."""
        return None

    def destination(self, mail_address: str) -> str | None:
        """Return the mailbox that gets its message, given the one in the subject."""
        return None

    def check_address(self, mail_address: str) -> None:
        """Raise InvalidRequest if the request makes no sense for the mailbox."""


def _fields(kind: type[Body[Any]]) -> _Fields:
    found = _fields_of.get(kind)
    if found is None:
        fields = dataclasses.fields(kind)
        found = _fields_of[kind] = _Fields(
            {one.name: one.default for one in fields},
            {one.name: (one.metadata["check"], _valid_default(one)) for one in fields},
            tuple(one.name for one in fields if "needed" in one.metadata),
        )
    return found


def _valid_default(field: dataclasses.Field[Any]) -> object:
    """Return a field's default if it passes the check unchanged, else a new object."""
    try:
        passes = field.metadata["check"](field.name, field.default) is field.default
    except InvalidRequest:
        passes = False
    return field.default if passes else object()


@dataclass(frozen=True, kw_only=True)
class ByConsumer(Body[R_co]):
    """A request about messages that a consumer of a group holds."""

    is_private: ClassVar[bool] = True
    shows_life: ClassVar[bool] = True

    # ``agent`` or ``agent/anything``; None for the one that the broker generates per connection.
    consumer: str | None = given(None, optional(checks.header_text))

    @property
    def claimed_agent(self) -> str | None:
        """The agent that the consumer works for: its name up to the first slash."""
        return (self.consumer or "").partition("/")[0] or None


def parse_object(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in a payload; an empty payload is the empty object."""
    if not payload:
        return {}
    try:
        data = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"payload: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidRequest(f"payload: {shown(data)} is not a JSON object")
    # Each level has its own bracket.
    brackets = payload.count(b"{") + payload.count(b"[")
    if brackets > MAX_NESTING and _is_nested_deeper(data, MAX_NESTING):
        raise InvalidRequest(f"payload: the JSON is nested more than {MAX_NESTING} levels deep")
    return data


def fields_of(payload: bytes) -> dict[str, object]:
    """Return the fields of a JSON object; an empty dict for any other text."""
    try:
        fields = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_nested_deeper(data: Any, most: int) -> bool:
    level = [data]
    for _ in range(most + 1):
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return False
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, Mapping) else one)
        ]
    return True
