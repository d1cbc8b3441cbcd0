"""What every request has in common, whether it travels or the broker asks it of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import orjson

from mq9.errors import InvalidRequest
from mq9.protocol import checks
from mq9.protocol.checked import Checked, given
from mq9.protocol.checks import optional
from mq9.protocol.headers import BASE64, RequestHeaders

R_co = TypeVar("R_co", covariant=True)

_defaults_of: dict[type[Body[Any]], dict[str, object]] = {}

MAX_NESTING = 100  # of objects and lists; writers and readers of JSON give up somewhere above


class Named(NamedTuple):
    """What the subject of a request names beside its verb.

    Attributes:
        mail_address: The mailbox; "" for none.
        msg_id: The message, where the verb concerns one.
        priority: In older generations, the priority of what is sent there; "" for none.
    """

    mail_address: str = ""
    msg_id: int | None = None
    priority: str = ""


class Request(Generic[R_co]):
    """Something that a broker can be asked; its outcome is an ``R_co``.

    Attributes:
        is_private: Whether it concerns a mailbox that, of authenticated agents, only the creator
            and the readers may use.
        only_looks: Whether it takes nothing there, so that those may ask it who may only look.
        is_bounded: Whether, where it only reads, it is refused when it takes more steps than a
            read may.
        is_brief: Whether, where it only reads, it takes few steps as a rule, and comes to a few
            values.
        reads_messages: Whether its outcome holds messages, which a reply may hold as base64.
        shows_life: Whether it is a sign of life of the agent that the asker works for.
    """

    __slots__ = ()
    is_private: ClassVar[bool] = False
    only_looks: ClassVar[bool] = False
    is_bounded: ClassVar[bool] = True
    is_brief: ClassVar[bool] = False
    reads_messages: ClassVar[bool] = False
    shows_life: ClassVar[bool] = False

    @property
    def claimed_agent(self) -> str | None:
        """The agent that the asker says it works for."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body(Checked, Request[R_co]):
    """A request that travels, as the JSON object that is its payload.

    A request that exists is valid. Fields that hold their default are left out on the wire;
    unknown fields are ignored when reading.
    """

    # Names of fields that travel inside the object "config".
    CONFIG: ClassVar[frozenset[str]] = frozenset()
    # Names of fields that travel with their default too, since other brokers have another.
    ALWAYS: ClassVar[frozenset[str]] = frozenset()

    def encode(self) -> bytes:
        """Return the payload."""
        body: dict[str, Any] = {}
        config: dict[str, Any] = {}
        fields = _defaults(type(self))
        for name, default in fields.items():
            value = getattr(self, name)
            if value != default or name in self.ALWAYS:
                (config if name in self.CONFIG else body)[name] = value
        if config:
            body["config"] = config
        return orjson.dumps(body) if fields else b""

    def encode_headers(self) -> list[tuple[str, str]]:
        """Return the headers."""
        return [BASE64] if self.reads_messages else []

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a request from its payload; what has no fields does not look at it.

        Raises:
            InvalidRequest: It is not JSON, or a field is wrong.
        """
        fields = _defaults(cls)
        data = parse_object(payload) if fields else {}
        config = checks.json_object("config", data.get("config")) if cls.CONFIG else {}
        values = {}
        for name in fields:
            source = config if name in cls.CONFIG else data
            value = source.get(name)
            if not checks.is_absent(value):
                values[name] = value
        return cls(**values)

    @classmethod
    def read(cls, payload: bytes, headers: RequestHeaders, msg_id: int | None) -> Self:
        """Read a request from what travelled.

        Args:
            payload: The JSON, or what a message carries.
            headers: What travelled beside it.
            msg_id: The message that the subject names, if it names one.

        Raises:
            InvalidRequest: Some of it is wrong.
        """
        return cls.decode(payload)

    @property
    def subject_msg_id(self) -> int | None:
        """The message that the subject names; None where it names none."""
        return None

    @property
    def other_address(self) -> str | None:
        """The mailbox that it names beside the one in the subject; None where it names none."""
        return None

    def destination(self, mail_address: str) -> str | None:
        """Return the mailbox to which it brings a message; None where it brings none.

        Args:
            mail_address: The one in the subject.
        """
        return None

    def check_address(self, mail_address: str) -> None:
        """Refuse a mailbox for which the request makes no sense.

        Raises:
            InvalidRequest: A field does not go with it.
        """


def _defaults(kind: type[Body[Any]]) -> dict[str, object]:
    """Return the default of each field, by its name."""
    defaults = _defaults_of.get(kind)
    if defaults is None:
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        _defaults_of[kind] = defaults
    return defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class ByConsumer(Body[R_co]):
    """Concerns what a consumer of a group holds.

    Attributes:
        consumer: Its name, ``agent`` or ``agent/anything``; None for one that the broker makes up
            for the connection.
    """

    is_private: ClassVar[bool] = True
    shows_life: ClassVar[bool] = True

    consumer: str | None = given(None, optional(checks.header_text))

    @property
    def claimed_agent(self) -> str | None:
        """The agent that the consumer works for: its name up to the first slash."""
        return (self.consumer or "").partition("/")[0] or None


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
    # Each level has a bracket of its own.
    brackets = payload.count(b"{") + payload.count(b"[")
    if brackets > MAX_NESTING and _is_nested_deeper(data, MAX_NESTING):
        raise InvalidRequest(f"payload: the JSON is nested more than {MAX_NESTING} levels deep")
    return data


def fields_of(payload: bytes) -> dict[str, object]:
    """Return the fields of a JSON object; none of anything else."""
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
