"""The page for those who come from another system leaves out no verb, and names what there is."""

import inspect
import re
from pathlib import Path

import mq9
from langchain_mq9 import Mq9Toolkit
from mq9 import Message, Mq9Client
from mq9.dialects import OLDER

PAGE = (Path(__file__).parents[2] / "docs/how-to/coming-from.md").read_text("utf-8")
TABLE = re.compile(r"^\|(.*)\|\n\|(?:---\|)+\n((?:\|.*\|\n)+)", re.MULTILINE)
OURS = {"here", "`Mq9Client`"}  # headings of columns
CALL = re.compile(r"(?:(client|message|Mq9Client)\.)?\b(\w+)\(([^()]*)\)")
TOOLS = {tool.name: tool for tool in Mq9Toolkit("memory://page").get_tools()}


def cells(row):
    return [cell.strip() for cell in row.strip().strip("|").split(" | ")]


def calls():
    """Return the calls of ours in the tables: of what, its name, its arguments."""
    found = []
    for head, rows in TABLE.findall(PAGE):
        columns = [number for number, name in enumerate(cells(head)) if name in OURS]
        for row in rows.splitlines():
            for number in columns:
                for span in re.findall("`([^`]+)`", cells(row)[number]):
                    found += CALL.findall(span)
    return found


def is_taken(owner, name, arguments):
    """Tell whether what is called takes the arguments that are named."""
    named = set(re.findall(r"(\w+)=", arguments))
    if owner == "message":
        called = getattr(Message, name)
    elif name == "Mq9Toolkit":
        called = Mq9Toolkit
    elif name in TOOLS and not hasattr(Mq9Client, name):
        properties = TOOLS[name].tool_call_schema.model_json_schema()["properties"]
        return set(re.findall(r"\w+", arguments)) <= properties.keys()
    else:
        called = getattr(Mq9Client, name, None) or getattr(mq9, name)
    return named <= inspect.signature(called).parameters.keys()


def test_every_verb_of_an_older_generation_has_a_row():
    first_cells = [cells(row)[0] for _, rows in TABLE.findall(PAGE) for row in rows.splitlines()]
    for verb in (*OLDER, "BROADCAST"):
        assert any(verb in cell for cell in first_cells), verb


def test_every_call_on_the_page_is_one_of_ours_and_takes_its_arguments():
    found = calls()
    assert len(found) > 100
    for call in found:
        assert is_taken(*call), call
