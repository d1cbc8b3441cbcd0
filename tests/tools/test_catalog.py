"""The eight operations, of which every door makes its tools."""

import json

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_mq9.tools import TOOLS
from mq9.operations import ALL, OPERATIONS
from mq9.operations.listing import NAMES, READ_ONLY
from mq9.operations.tool_names import ToolNames

from . import tool_calls

CHANGES_NOTHING = {"agent_discover", "query_messages"}
REMOVES_SOMETHING = {"delete_message"}
MAY_BE_REPEATED = {
    *("agent_register", "agent_discover", "ack_messages", "query_messages", "delete_message"),
}
REACHES_OTHERS = {"send_message"}


def test_there_are_eight_operations():
    assert tuple(operation.name for operation in OPERATIONS) == tool_calls.TOOLS


def test_they_are_listed_as_they_are():
    assert tuple(ALL) == NAMES
    assert {name for name, operation in ALL.items() if operation.read_only} == READ_ONLY


def test_each_tool_is_made_of_one_operation():
    assert tuple(kind.operation for kind in TOOLS) == OPERATIONS


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_says_what_it_is_and_does(operation):
    assert operation.title
    assert operation.title != operation.name
    assert ToolNames().text(operation.description).endswith(".")
    assert operation.read_only == (operation.name in CHANGES_NOTHING)
    assert operation.destructive == (operation.name in REMOVES_SOMETHING)
    assert operation.idempotent == (operation.name in MAY_BE_REPEATED)
    assert operation.open_world == (operation.name in REACHES_OTHERS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_argument_is_described_in_a_short_sentence(operation):
    for name, field in operation.arguments.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert len(field.description) < 100, name


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_result_has_room_for_the_unread_line(operation):
    properties = operation.result.model_json_schema()["properties"]

    assert properties["unread"]["description"]
    assert "error" not in properties


@pytest.mark.parametrize("kind", TOOLS, ids=lambda kind: kind.operation.name)
def test_a_tool_says_what_its_operation_says(kind):
    tool = kind(server="memory://registry")
    operation = kind.operation

    assert tool.name == operation.name
    assert tool.description == ToolNames().text(operation.description)
    assert tool.args_schema is operation.arguments
    definition = convert_to_openai_tool(tool)["function"]
    assert definition["name"] == operation.name
    assert definition["parameters"]["properties"].keys() == operation.arguments.model_fields.keys()


def test_all_definitions_together_are_small():
    definitions = [convert_to_openai_tool(kind(server="memory://registry")) for kind in TOOLS]

    tokens = sum(len(json.dumps(definition)) for definition in definitions) / 4

    assert tokens < 3_500
