"""The catalogue of operations, and everything that has to agree with it."""

import json
import re
from pathlib import Path

import pytest
import wordllama
from langchain_core.utils.function_calling import convert_to_openai_tool
from tokenizers import Tokenizer
from write_catalog import FILES, ROOT
from write_pages import FILES as PAGES

import langchain_mq9
from langchain_mq9.tools import TOOLS
from mcp_server.features.tools import definitions
from mcp_server.settings import Settings
from mq9.operations.catalog import ALL, MCP_OPERATIONS, OPERATIONS
from mq9.operations.tool_names import ToolNames

from .examples import VALID

HIDDEN = {"group_name", "new_only"}  # of those who know that it is there

NUMBERS = {8: "eight", 9: "nine", 10: "ten"}
ROW = re.compile(r"^\| `(?:mq9_)?([a-z_]+)` \|", re.MULTILINE)
NAME = re.compile(r"`mq9_([a-z_]+)`")


def each(operations):
    return pytest.mark.parametrize("operation", operations, ids=lambda one: one.name)


@pytest.mark.parametrize("path", {**FILES, **PAGES}, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_written_from_other_files_is_current(path):
    assert path.read_text("utf-8") == {**FILES, **PAGES}[path](), "run `make generated`"


def rows(table):
    """The names of tools in the first column of a table."""
    return [name for name in ROW.findall(table) if name in ALL]


def test_the_readme_lists_the_tools():
    text = (ROOT / "README.md").read_text("utf-8")
    number, table = re.search(r"There are (\w+) tools:\n\n((?:\|.*\n)+)", text).groups()

    assert rows(table) == [one.name for one in OPERATIONS]
    assert number == NUMBERS[len(OPERATIONS)]


def test_the_reference_lists_the_tools():
    for page, operations in (("tools", OPERATIONS), ("mcp", MCP_OPERATIONS)):
        text = (ROOT / f"docs/reference/{page}.md").read_text("utf-8")
        assert rows(text) == [one.name for one in operations]


def test_the_docs_say_which_tools_only_read_reach_others_and_remove_something():
    hosts = (ROOT / "docs/how-to/mcp-hosts.md").read_text("utf-8")
    reference = (ROOT / "docs/reference/mcp.md").read_text("utf-8")
    [reading] = re.findall(r"^\| `--read-only` \|.*$", hosts, re.MULTILINE)
    [reaching] = re.findall(r"Only ([^.]*)\(`openWorldHint`\)", reference)
    [removing] = re.findall(r"Only ([^.]*)\(`destructiveHint`\)", reference)

    assert NAME.findall(reading) == [one.name for one in ALL.values() if one.read_only]
    assert NAME.findall(reaching) == [one.name for one in ALL.values() if one.open_world]
    assert NAME.findall(removing) == [one.name for one in ALL.values() if one.destructive]


def test_there_is_an_example_of_each_operation():
    assert list(VALID) == list(ALL), "add one to tests/tools/examples.py"


@each(OPERATIONS)
def test_each_operation_has_a_tool_class_for_langchain(operation):
    [kind] = [one for one in TOOLS if one.operation is operation]

    assert kind.__name__.removesuffix("Tool").lower() == operation.name.replace("_", "")
    assert getattr(langchain_mq9, kind.__name__) is kind
    assert kind.__name__ in langchain_mq9.__all__
    assert ToolNames().text(operation.description) in kind.__doc__
    tool = kind(server="memory://catalog")
    assert tool.name == operation.name
    assert tool.description == ToolNames().text(operation.description)
    assert tool.args_schema is operation.arguments
    definition = convert_to_openai_tool(tool)["function"]
    assert definition["name"] == operation.name
    assert (
        definition["parameters"]["properties"].keys()
        == operation.arguments.model_fields.keys() - HIDDEN
    )


@each(ALL.values())
def test_an_operation_says_what_it_is_and_does(operation):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation.name)
    assert operation.title
    assert operation.title != operation.name
    assert ToolNames().text(operation.description).endswith(".")
    if operation.read_only:
        assert operation.idempotent
        assert not operation.destructive


@each(ALL.values())
def test_every_argument_is_described_in_a_short_sentence(operation):
    for name, field in operation.arguments.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert len(field.description) < 100, name


@each(ALL.values())
def test_every_result_has_room_for_the_unread_line(operation):
    properties = operation.result.model_json_schema()["properties"]

    assert properties["your_unread"]["description"]
    assert "error" not in properties


def test_all_definitions_together_are_small():
    # Other models count alike, give or take a tenth.
    [path] = Path(wordllama.__file__).parent.glob("tokenizers/l2_*.json")
    tokenizer = Tokenizer.from_file(str(path))

    inputs = [
        {name: one[name] for name in ("name", "description", "inputSchema")}
        for one in definitions(Settings())
    ]

    assert len(inputs) == 10
    written = json.dumps(inputs, separators=(",", ":"))
    assert len(tokenizer.encode(written, add_special_tokens=False).ids) <= 2_700
