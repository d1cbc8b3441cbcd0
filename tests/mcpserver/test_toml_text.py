"""One table of a TOML document is changed, and nothing else."""

import tomllib
from functools import partial

import pytest

from mcp_server.hosts import toml_text
from mq9 import InvalidRequest

OURS = {"command": "/bin/mq9-mcp", "args": ["--agent", "ünï"], "env": {"MQ9_SERVER": "x"}}
PATH = ("mcp_servers", "mq9")
BLOCK = """\
[mcp_servers.mq9]
command = "/bin/mq9-mcp"
args = ["--agent", "ünï"]
env = {MQ9_SERVER = "x"}
"""
MINE = """\
# mine
model = "o"  # kept

[mcp_servers.other]
command = "x"  # this one, too
"""


def test_an_entry_is_a_table_of_its_own():
    assert toml_text.put("", PATH, OURS) == BLOCK
    assert toml_text.drop(BLOCK, PATH) == ""
    assert toml_text.is_empty("")
    assert not toml_text.is_empty("# mine")


def test_comments_and_spelling_stay():
    after = toml_text.put(MINE, PATH, OURS)
    assert after == f"{MINE}\n{BLOCK}"
    assert toml_text.drop(after, PATH) == MINE
    assert toml_text.put("[[tui]]\na = nan\n", PATH, OURS) == f"[[tui]]\na = nan\n\n{BLOCK}"


def test_an_edited_entry_goes_without_the_comments_behind_it():
    edited = BLOCK.replace("args", "# theirs\nargs") + "[mcp_servers.mq9.tools.a]\nb = 1\n"
    rest = "\n# of tui\n[tui] # 1\na = 1\n"
    assert toml_text.drop(f"{MINE}\n{edited}{rest}", PATH) == f"{MINE}\n{rest}"
    assert toml_text.put(f"{edited}{rest}", PATH, OURS) == f"{BLOCK}{rest}"


@pytest.mark.parametrize(
    "before",
    [
        'a = """\n[mcp_servers.mq9]\n"""\n',
        "a = [\n  [1],\n  [\n  2]\n]\n",
        "['mcp_servers'.\"other\"]\na = 1\n[x]\n[mcp_servers.third]\nb = 2\n",
        "mcp_servers.other.command = 'x' # mine\n",
        "[tui]\na = 1\n",
        "[mcp_servers.other]\ncommand = 'y'\n\n[tui]\na = 1\n",
        'mcp_servers = {other = {command = "x"}}\n',
        "[mcp_servers]\nother.command = 'x'\n",
        "a = 1\r\n\r\n[b]\r\nc = 2\r\n",
    ],
)
def test_wherever_the_servers_stand_it_comes_and_goes(before):
    meant = tomllib.loads(before)
    after = toml_text.put(before, PATH, OURS)
    servers = meant.get("mcp_servers", {})
    assert tomllib.loads(after) == {**meant, "mcp_servers": {**servers, "mq9": OURS}}
    back = toml_text.drop(after, PATH)
    assert "".join(back.split()) == "".join(before.split())
    assert toml_text.drop(before, PATH) == before


def test_a_value_is_found_as_json_and_put_back():
    before = toml_text.put(MINE, PATH, {"command": "mine", "n": 1, "deep": {"a": [1, {"b": 2}]}})
    old = toml_text.find(before, PATH)
    assert old == '{"command": "mine", "n": 1, "deep": {"a": [1, {"b": 2}]}}'
    after = toml_text.put(toml_text.put(before, PATH, OURS), PATH, old)
    assert tomllib.loads(after) == tomllib.loads(before)
    assert toml_text.find(MINE, PATH) is None
    assert toml_text.find("", PATH) is None
    assert not toml_text.is_empty(before, PATH[:1])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a = \n", "not TOML: .*line 1"),
        ("a = 1\na = 2\n", "not TOML"),
        ("mcp_servers = 1\n", "'mcp_servers' is not a table"),
        ("[[mcp_servers]]\na = 1\n", "'mcp_servers' is not a table"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text, wrong):
    for change in (partial(toml_text.put, value=OURS), toml_text.drop, toml_text.find):
        with pytest.raises(InvalidRequest, match=wrong):
            change(text, PATH)
