"""A new tool costs its operation: the steps of CONTRIBUTING.md, followed in a copy of the code."""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]

ROOT = Path(__file__).parents[2]
COPIED = ("mq9", "langchain_mq9", "mcp_server", "packaging", "docs", "notebooks")
BY_HAND = {"mq9/operations/counting.py", "mq9/operations/catalog.py"}
GENERATED = {
    "langchain_mq9/tools.pyi",
    "mq9/operations/listing.py",
    "mcp_server/startup/answers.json",
}
USE = """
import asyncio, json
import langchain_mq9

from mcp import Client
from mcp_server import Callers, Settings, make_server
from mcp_server.startup.answers import Answers
from mq9.operations.listing import NAMES, READ_ONLY
from mq9.testing import FakeBroker


async def main():
    said = {"listing": "count_messages" in NAMES, "reading": "count_messages" in READ_ONLY}
    with FakeBroker() as broker:
        async with broker.client() as client:
            await client.mailbox_create(name="desk")
            await client.send("desk", "x")
        async with langchain_mq9.Mq9Toolkit(broker.url, agent="desk") as toolkit:
            [tool] = [one for one in toolkit.get_tools() if one.name == "count_messages"]
            said["class"] = isinstance(tool, langchain_mq9.CountMessagesTool)
            said["langchain"] = json.loads(await tool.ainvoke({}))

        settings = Settings(read_only=True)
        callers = Callers(lambda _agent: broker.client(), settings, agent="desk")
        async with Client(make_server(callers, settings)) as host:
            listed = (await host.list_tools()).tools
            [tool] = [one for one in listed if one.name == "mq9_count_messages"]
            said["mcp"] = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
            said["called"] = (await host.call_tool(tool.name, {})).structured_content
        answers = Answers(settings, settings.identity("desk"))
        first = answers.result("2025-11-25", "tools/list")["tools"]
        said["first"] = [one for one in first if one["name"] == "mq9_count_messages"]
    print(json.dumps(said))


asyncio.run(main())
"""


def run(copy, *arguments):
    """Run Python on the copy; what it prints."""
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=copy,
        env={**environment, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed(copy):
    """The files of the copy that differ from those of the repository, or are not there."""
    found = (path for folder in COPIED for path in (copy / folder).rglob("*") if path.is_file())
    return {
        str(path.relative_to(copy))
        for path in found
        if not (there := ROOT / path.relative_to(copy)).exists()
        or not filecmp.cmp(path, there, shallow=False)
    }


@pytest.fixture
def extended(tmp_path):
    """A copy of the code with the tool of the example, made by its steps."""
    copy = tmp_path / "copy"
    for folder in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    shutil.copy(ROOT / "CHANGELOG.md", copy)
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## A new tool\n")[2]
    [module] = re.findall(r"`(mq9/operations/counting\.py)`", section)
    [source] = re.findall(r"^ *```python\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    (copy / module).write_text(textwrap.dedent(source), "utf-8")

    catalog = copy / "mq9/operations/catalog.py"
    text = catalog.read_text("utf-8")
    text = text.replace(
        "from mq9.operations.discovery import",
        "from mq9.operations.counting import count_messages\nfrom mq9.operations.discovery import",
    )
    text = re.sub(r"(?ms)(^OPERATIONS: .*?)\n\)", r"\1\n    count_messages,\n)", text)
    catalog.write_text(text, "utf-8")
    assert changed(copy) == BY_HAND

    recipe = re.search(
        r"^generated:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    for program in re.findall(r"packaging/\w+\.py", recipe[1]):
        run(copy, program)
    return copy


def test_a_new_tool_costs_its_operation(extended):
    assert changed(extended) == BY_HAND | GENERATED
    types = (extended / "langchain_mq9/tools.pyi").read_text("utf-8")
    assert "class CountMessagesTool(Mq9Tool):" in types
    said = json.loads(run(extended, "-c", USE))

    assert said["listing"]
    assert said["reading"]
    assert said["class"]
    assert said["langchain"] == {
        "your_unread": "1 unread: call fetch_messages",
        "mail_address": "desk",
        "stored": 1,
    }

    tool = said["mcp"]
    assert tool["title"] == "Count messages"
    assert tool["description"] == (
        "Tell how many messages a mailbox holds. To see them use mq9_query_messages."
    )
    assert tool["inputSchema"]["properties"]["mail_address"]["description"]
    assert set(tool["outputSchema"]["properties"]) == {"your_unread", "mail_address", "stored"}
    assert tool["annotations"] == {
        "readOnlyHint": True,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": False,
    }
    assert said["called"] == {"your_unread": "1 unread", "mail_address": "desk", "stored": 1}
    [first] = said["first"]
    assert first == {key: value for key, value in tool.items() if key in first}
    assert first.keys() == tool.keys()
