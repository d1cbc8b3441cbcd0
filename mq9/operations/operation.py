"""An operation for a model, declared once for LangChain and MCP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, SkipJsonSchema
from pydantic_core import core_schema

from mq9.errors import Forbidden
from mq9.operations.caller import Caller
from mq9.operations.identity import HIGHEST_MAX_CHARS
from mq9.protocol import checks

MailAddress = Annotated[str, Field(description="Mailbox address, such as agent.translator.")]
OwnMailbox = Annotated[str | None, Field(description="Mailbox to use; else your own.")]
Group = Annotated[
    str | None,
    Field(
        max_length=checks.HEADER_VALUE_LENGTH,
        description="Consumer group, if you share the work with others.",
    ),
]
Number = Annotated[int, Field(ge=0, le=checks.MAX_MSG_ID)]
MsgId = Annotated[Number, Field(description="msg_id from a result.")]
MaxChars = Annotated[
    int | None,
    Field(ge=100, le=HIGHEST_MAX_CHARS, description="Most characters of text to return."),
]
Seconds = Annotated[int | None, Field(ge=0, le=checks.MAX_SECONDS)]
Tags = Annotated[list[str] | None, Field(max_length=checks.MAX_TAGS)]
Key = Annotated[str | None, Field(max_length=checks.HEADER_VALUE_LENGTH)]
CorrelationIds = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=checks.HEADER_VALUE_LENGTH)]] | None,
    Field(max_length=100),
]
Since = Annotated[
    str | None, Field(description="Only messages from this time on, such as 2026-11-21T07:09:00Z.")
]


class Arguments(BaseModel):
    """Exactly the arguments of an operation, of exactly their types.

    Null and the empty text stand for an argument that is left out, where it may be: all that are
    not required have the type of what may be null, and no other default, so that a host that makes
    models name every argument leaves them a way not to.
    """

    # Names that arguments had in the last release, which are understood in this one.
    FORMER: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        defer_build=True,  # of most in a program, only some are used
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_is_empty(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        given = {
            new if (new := cls.FORMER.get(name, name)) not in given else name: value
            for name, value in given.items()
        }
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {
            name: value
            for name, value in given.items()
            if not (name in optional and checks.is_absent(value))
        }

    @property
    def longest_wait_s(self) -> int:
        """For how many seconds the operation may wait for something to happen."""
        return 0


class NoArguments(Arguments):
    """Arguments of an operation that takes none."""


class Result(BaseModel):
    """A result for a model."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True, defer_build=True)

    your_unread: str | None = Field(
        default=None, description="What waits in your own mailbox, if anything."
    )

    # Said seldom: in no schema, since a model would pay for it with every tool.
    no_longer_yours: SkipJsonSchema[str | None] = Field(
        default=None, description="Messages whose leases you have lost, and what became of them."
    )

    def content(self) -> str:
        """Return the result as compact JSON, without what does not apply."""
        return orjson.dumps(self.model_dump(mode="json", exclude_none=True)).decode()


A = TypeVar("A", bound=Arguments)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A question to the user before an operation is performed, and what its answers mean."""

    question: str  # to be answered by yes or no
    declined: str  # for the model
    unanswered: str | None  # for the model; None: performed then


@dataclass(frozen=True, slots=True)
class Operation(Generic[A, R]):
    """One thing that a model can do."""

    name: str  # words of letters a-z joined by underscores
    title: str
    description: str  # for the model; a template, see ToolNames
    arguments: type[A]
    result: type[R]
    function: Callable[[Caller, A], Awaitable[R]]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False  # it reaches others, who may be anybody
    confirmation: Callable[[Caller, A], Awaitable[Confirmation | None]] | None = None
    # It leases messages or uses fetched ones; or a function of its arguments returns that. All
    # such calls belong on one event loop.
    leases: bool | Callable[[A], bool] = False

    def uses_leases(self, arguments: A) -> bool:
        """Return whether a call leases messages or uses fetched ones."""
        return self.leases(arguments) if callable(self.leases) else self.leases

    def check_allowed(self, caller: Caller) -> None:
        """Raise Forbidden unless a caller may perform this."""
        if (caller.read_only and not self.read_only) or self.name not in caller.tools:
            raise Forbidden("this is switched off here")


def operation(
    *,
    title: str,
    description: str,
    confirmation: Callable[[Caller, A], Awaitable[Confirmation | None]] | None = None,
    leases: bool | Callable[[A], bool] = False,
    **traits: bool,
) -> Callable[[Callable[[Caller, A], Awaitable[R]]], Operation[A, R]]:
    """Declare an operation on the function that performs it, whose name it has.

    The annotations of the function's second parameter and of its return value are the classes of
    the arguments and of the result. The traits are the flags of ``Operation``.
    """

    def declare(function: Callable[[Caller, A], Awaitable[R]]) -> Operation[A, R]:
        signed = signature(function, eval_str=True)
        _caller, arguments = signed.parameters.values()
        return Operation(
            name=function.__name__,
            title=title,
            description=description,
            arguments=arguments.annotation,
            result=signed.return_annotation,
            function=function,
            confirmation=confirmation,
            leases=leases,
            **traits,
        )

    return declare


_BEYOND_REACH = 10**6
_NULL = {"type": "null"}


class _Plain(GenerateJsonSchema):
    """Leaves out titles and nulls: in a result, what would be null is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Describe what may be null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Describe a value with a default."""
        if "default" in schema and schema["default"] is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        """Describe a text, without its maximum length, which models do not reach."""
        described = super().str_schema(schema)
        described.pop("maxLength", None)
        return described

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """Describe a number, without limits that models do not reach."""
        described = super().int_schema(schema)
        if described.get("maximum", 0) > _BEYOND_REACH:
            del described["maximum"]
        if described.get("minimum") == 0:
            del described["minimum"]
        return described

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Tell that no field needs a title."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Describe a model, without the docstring, which is for programmers."""
        described = super().model_schema(schema)
        described.pop("title", None)
        described.pop("description", None)
        return described


class _Nullable(_Plain):
    """Lets everything be null that may be left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Describe what may be null."""
        # Not as a list of types, which some hosts do not know.
        return {"anyOf": [super().nullable_schema(schema), _NULL]}


def arguments_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model's arguments; optional ones may be null instead."""
    return model.model_json_schema(schema_generator=_Nullable)


def result_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a result: names and types only."""
    schema = model.model_json_schema(schema_generator=_Plain, mode="serialization")
    for described in (schema, *schema.get("$defs", {}).values()):
        for field in described["properties"].values():
            field.pop("description", None)
    return schema
