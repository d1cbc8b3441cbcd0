"""``mq9 worker``: what it loads, and a worker that it runs as a program."""

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from langchain_mq9.cli.command import find, made
from mq9 import InvalidRequest, Mq9Client
from mq9.cli.app import app

LAW = """
import contextlib
from typing import TypedDict
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

class Case(TypedDict, total=False):
    number: int

def count(case):
    return {"number": case["number"] + 1}

def build():
    return StateGraph(Case).add_node(count).add_edge(START, "count")

uncompiled = build()
unsaved = build().compile()
saved = build().compile(checkpointer=InMemorySaver())
number = 3

def make():
    return build()

async def make_later():
    return build().compile(checkpointer=InMemorySaver())

@contextlib.asynccontextmanager
async def make_inside():
    yield build().compile(checkpointer=InMemorySaver())

def make_with(checkpointer):
    return build().compile(checkpointer=checkpointer)

def make_nothing():
    return None

class inner:
    graph = saved
"""


@pytest.fixture(autouse=True)
def law(tmp_path, monkeypatch):
    """A module to load graphs from, which is forgotten with the test."""
    (tmp_path / "law.py").write_text(LAW)
    (tmp_path / "needy.py").write_text("import nothing_of_that_name\n")
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("law", None)


async def number_after(graph):
    config = {"configurable": {"thread_id": "1"}}
    return (await graph.ainvoke({"number": 3}, config))["number"]


@pytest.mark.parametrize("name", ["saved", "make_later", "make_inside", "inner.graph"])
async def test_a_graph_with_a_checkpointer_is_taken_as_it_is(tmp_path, name):
    async with made(find(f"law:{name}", tmp_path), None) as graph:
        assert await number_after(graph) == 4


@pytest.mark.parametrize("name", ["uncompiled", "unsaved", "make", "make_with"])
async def test_a_graph_without_one_is_given_that_of_a_file(tmp_path, name):
    async with made(find(f"law:{name}", tmp_path), tmp_path / "threads.db") as graph:
        assert await number_after(graph) == 4
        assert (await graph.aget_state({"configurable": {"thread_id": "1"}})).values
    assert (tmp_path / "threads.db").exists()


@pytest.mark.parametrize(
    ("name", "file", "reason"),
    [
        ("law", None, "graph: 'law' is not module:name"),
        ("nowhere:graph", None, "graph: module nowhere was not found in "),
        ("needy:graph", None, "graph: needy needs nothing_of_that_name, which is missing"),
        ("law:nothing", None, "graph: law has no nothing"),
        ("law:number", None, "graph: int is not a graph and does not build one"),
        (
            "json:loads",
            None,
            "graph: loads is not a graph, and calling it to build one failed: missing",
        ),
        ("law:make_nothing", None, "graph: NoneType is not a graph and does not build one"),
        ("law:uncompiled", None, "checkpoint: the graph is not compiled yet; name a file"),
        ("law:make_with", None, "checkpoint: the graph is made with one; name a file"),
        ("law:saved", "threads.db", "checkpoint: the graph has a checkpointer of its own"),
    ],
)
async def test_what_cannot_be_run_is_refused(tmp_path, name, file, reason):
    with pytest.raises(InvalidRequest, match=reason):
        async with made(find(name, tmp_path), file and tmp_path / file):
            pass


async def test_what_keeps_a_file_is_asked_for_by_the_name_of_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.sqlite.aio", None)
    with pytest.raises(InvalidRequest, match=r"the extra `worker` of this package installs"):
        async with made(find("law:uncompiled", tmp_path), tmp_path / "threads.db"):
            pass


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--card", "law.py"], "card: law.py is no JSON"),
        (["--card", "list.json"], "card: list.json holds no JSON object"),
        (["--card", "list.json", "--capabilities", "x"], "card: --capabilities is given as well"),
        (["--checkpoint", "threads.db", "--concurrency", "0"], "concurrency: "),
        (["--checkpoint", "threads.db", "--expires", "0"], "expires: "),
        (["--checkpoint", "threads.db", "--max-deliveries", "0"], "max_deliveries: "),
        (["--checkpoint", "threads.db", "--max-deaths", "0"], "max_deaths: "),
        (["--checkpoint", "threads.db", "--retry-delay", "-1"], "retry_delay: "),
        (["--checkpoint", "threads.db", "--max-retry-delay", "86401"], "max_retry_delay: "),
        (["--checkpoint", "threads.db", "--lease", "0.9"], "lease: 0.9 is not between 1 and"),
        (["--checkpoint", "threads.db", "--human", "..."], "'...'"),
        ([], "graph: it has no checkpointer"),
    ],
)
def test_wrong_options_are_refused(tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    done = CliRunner().invoke(app, ["worker", "law:unsaved", "--agent", "lawyer", *arguments])
    assert (done.exit_code, done.stderr[: len("error: ")]) == (2, "error: ")
    assert reason in done.stderr


@pytest.mark.quick
@pytest.mark.programs
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
async def test_it_works_until_it_is_told_to_stop(tmp_path):
    url = f"sqlite:///{tmp_path / 'mail.db'}"
    (tmp_path / "card.json").write_text(json.dumps({"description": "counts cases"}))
    command = [sys.executable, "-m", "mq9", "worker", "law:make", "--agent", "lawyer", "--url", url]
    with subprocess.Popen(  # noqa: ASYNC220  # nothing else runs here
        [*command, "--checkpoint", "threads.db", "--card", "card.json", "--stop-timeout", "5"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout.readline() == "lawyer takes mail at lawyer\n"
            async with Mq9Client(url) as client:
                [found] = await client.agent_discover(text="cases")
                assert found.match.name == "lawyer"
                answer = await client.request("lawyer", {"number": 3})
                assert answer.json() == {"number": 4}
            program.send_signal(signal.SIGTERM)
            _, log = program.communicate(timeout=60)
        finally:
            program.kill()
    assert program.returncode == 0
    assert "mq9.worker: working agent=lawyer mailbox=lawyer" in log
    assert "how=started" in log
