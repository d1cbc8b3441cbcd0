"""JSON schemas of arguments and results, as short as they can be: a model pays for each word."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

_BEYOND_REACH = 10**6
_NULL = {"type": "null"}


class _Plain(GenerateJsonSchema):
    """Leaves out titles and nulls: in a result, what would be null is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Describe what may be null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Describe what has a default."""
        if "default" in schema and schema["default"] is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        """Describe a text, without its longest length, which nobody means to reach."""
        described = super().str_schema(schema)
        described.pop("maxLength", None)
        return described

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """Describe a number, without limits that nobody means to reach."""
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
    """Return the JSON schema of what a model may say: no titles, no defaults, no docstrings.

    What may be left out may be null instead, for hosts that make models say everything.
    """
    return model.model_json_schema(schema_generator=_Nullable)


def result_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of what a model is told: names and types only.

    What a field means its name says again in every result.
    """
    schema = model.model_json_schema(schema_generator=_Plain, mode="serialization")
    for described in (schema, *schema.get("$defs", {}).values()):
        for field in described["properties"].values():
            field.pop("description", None)
    return schema
