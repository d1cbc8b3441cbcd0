"""Hosts that make a model say every argument: null says nothing, and nothing is forced on it."""

import copy

import jsonschema
import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool

from mq9.operations.catalog import ALL
from mq9.operations.operation import arguments_schema

from .examples import REQUIRED
from .tool_calls import TOOLS, ado, answer, asend, fetch, ids, send, tool

# Left out where another argument says it: reply_to_msg, or delayed_id.
ALTERNATIVES = {"to", "msg_id"}


def strict(schema):
    """Make a schema strict as such hosts do: everything is required, nothing else allowed."""
    made = copy.deepcopy(schema)
    made["required"] = list(made["properties"])
    made["additionalProperties"] = False
    return made


def everything(schema, needed):
    """Return arguments that say null for all that need not be said."""
    return {name: needed.get(name) for name in schema["properties"]}


@pytest.mark.parametrize("operation", ALL.values(), ids=lambda operation: operation.name)
def test_a_strict_schema_lets_a_model_say_nothing(operation):
    schema = arguments_schema(operation.arguments)
    needed = REQUIRED[operation.name]
    given = everything(schema, needed)

    jsonschema.validate(given, strict(schema))
    assert operation.arguments.model_validate(given) == operation.arguments.model_validate(needed)
    assert set(schema.get("required", ())) == set(needed) - (
        ALTERNATIVES - {"msg_id"} if operation.name == "ack_messages" else ALTERNATIVES
    )
    assert schema["additionalProperties"] is False
    # Nor does a default stand in it, which hosts refuse to work with.
    assert not any("default" in one for one in schema["properties"].values())


@pytest.mark.parametrize("name", TOOLS)
def test_a_langchain_tool_made_strict_lets_a_model_say_nothing(planner, name):
    send(planner, "x")
    if name == "ack_messages":
        fetch(planner)
    schema = convert_to_openai_tool(tool(planner, name), strict=True)["function"]["parameters"]
    given = everything(schema, REQUIRED[name])

    assert set(schema["required"]) == set(schema["properties"])
    jsonschema.validate(given, schema)
    assert answer(planner, name, **given).status == "success"


async def test_a_ttl_of_zero_is_no_ttl(broker, planner):
    await asend(planner, "x", ttl=0)

    await broker.clock.advance(3_600)

    assert ids(await ado(planner, "query_messages")) == [0]
