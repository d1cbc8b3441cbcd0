"""One entry of a list in a YAML document is changed, and nothing else."""

from functools import partial

import pytest
import yaml

from mcp_server.hosts import yaml_text
from mq9 import InvalidRequest

OURS = {"command": "/bin/mq9-mcp", "args": ["--agent", "ünï: #1"], "env": {"MQ9_SERVER": "x"}}
PATH = ("mcpServers", "mq9")
LINE = (
    '- {"name": "mq9", "command": "/bin/mq9-mcp", "args": ["--agent", "ünï: #1"], '
    '"env": {"MQ9_SERVER": "x"}}\n'
)
MINE = """\
# mine
name: me
models:
  - name: one  # kept
    apiKey: ${{ secrets.KEY }}
"""


def test_an_entry_is_a_line():
    assert yaml_text.put("", PATH, OURS) == f"mcpServers:\n  {LINE}"
    after = yaml_text.put(MINE, PATH, OURS)
    assert after == f"{MINE}mcpServers:\n  {LINE}"
    assert yaml.safe_load(after)["mcpServers"] == [{"name": "mq9", **OURS}]
    assert yaml_text.parse(after)["mcpServers"] == {"mq9": OURS}
    assert yaml_text.drop(yaml_text.drop(after, PATH), PATH[:1]) == MINE
    assert yaml_text.is_empty("")
    assert not yaml_text.is_empty("# mine")


@pytest.mark.parametrize(
    ("before", "indent"),
    [
        (f"mcpServers:  # these\n    - name: other\n      command: x\n{MINE}", "    "),
        (f"mcpServers:\n# of other\n- name: other\n  command: x\n{MINE}", ""),
        (f"mcpServers:\n  - uses: them/it\n{MINE}", "  "),
        (f"{MINE}mcpServers:", "  "),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_wherever_the_servers_stand_it_comes_and_goes(before, indent, line_end):
    before = before.replace("\n", line_end)
    after = yaml_text.put(before, PATH, OURS)
    assert indent + LINE.replace("\n", line_end) in after
    servers = yaml.safe_load(before)["mcpServers"] or []
    assert yaml.safe_load(after)["mcpServers"] == [{"name": "mq9", **OURS}, *servers]
    assert yaml_text.drop(after, PATH).rstrip() == before.rstrip()
    again = yaml_text.put(after, PATH, {"command": "y"})
    assert yaml_text.find(again, PATH) == '{"command": "y"}'
    assert yaml_text.drop(again, PATH).rstrip() == before.rstrip()


def test_an_empty_list_is_filled():
    after = yaml_text.put("mcpServers: [] # none\na: 1\n", PATH, OURS)
    assert after == f"mcpServers: # none\n  {LINE}a: 1\n"
    assert yaml_text.is_empty("mcpServers: []\n", PATH[:1])
    assert yaml_text.is_empty(yaml_text.drop(after, PATH), PATH[:1])
    assert yaml_text.drop(MINE, PATH) == MINE


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a: [", "not YAML: (.|\n)*line 1"),
        ("- a\n", "not an object as a whole"),
        ("mcpServers: 1\n", "'mcpServers' is not a list"),
        ("mcpServers:\n  - name: mq9\n    command: x\n", "'mq9' is not on a line of its own"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text, wrong):
    for change in (partial(yaml_text.put, value=OURS), yaml_text.drop):
        with pytest.raises(InvalidRequest, match=wrong):
            change(text, PATH)


def test_a_list_in_brackets_is_refused():
    with pytest.raises(InvalidRequest, match="cannot be changed safely"):
        yaml_text.put("mcpServers: [{name: other, command: x}]\n", PATH, OURS)
