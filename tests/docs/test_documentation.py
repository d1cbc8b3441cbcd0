"""README and docs say what is true: their snippets are run and their commands exist."""

import ast
import contextlib
import inspect
import io
import itertools
import re
import types
from pathlib import Path

import pytest

from langchain_mq9.testing import ScriptedModel, call
from mq9.testing import FakeBroker

ROOT = Path(__file__).parents[2]
# The notebooks, which are pages of the site, have a test of their own.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"] + [
    page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "notebooks"
]
PROGRAM = re.compile(r"# \w+\.py\n")  # a file that the reader saves; test_shell runs it
# The last three are for test_deploying and tests/cluster/test_permissions.py.
KINDS = ("python", "sh", "text", "toml", "mq9", "ini", "yaml", "conf")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall(page.read_text("utf-8"))


async def run(source, namespace):
    """Run a snippet that may await at its top level; what it prints."""
    code = compile(source, "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = types.FunctionType(code, namespace)()
        if inspect.isawaitable(result):
            await result
    return printed.getvalue()


MADE_UP = r'(?<="correlation_id":")[a-z2-7]{12}(?=")'


async def run_tests_in(namespace):
    """Run the test functions that a snippet defined, each on a broker of its own."""
    for name in [name for name in namespace if name.startswith("test_")]:
        with FakeBroker() as broker:
            result = namespace.pop(name)(broker)
            if inspect.isawaitable(result):
                await result


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
async def test_the_snippets_of_a_page_run_and_print_what_it_says(page, monkeypatch, server):
    monkeypatch.setenv("MQ9_SERVER", f"memory://{page.stem}")
    found = blocks(page)
    # README can be followed twice; whoever does so gets other ids.
    for masked in (MADE_UP, r"\d+") if page.name == "README.md" else (MADE_UP,):
        namespace = {"model": ScriptedModel(call("agent_discover", query="translate"), "Nobody.")}
        for (language, source), following in itertools.pairwise([*found, ("", "")]):
            if language == "python" and not PROGRAM.match(source):
                here = source.replace("nats://127.0.0.1:4222", server.url)
                printed = await run(here, namespace)
                if following[0] == "text":
                    assert re.sub(masked, "N", printed) == re.sub(masked, "N", following[1])
                await run_tests_in(namespace)
        if "toolkit" in namespace:
            namespace["toolkit"].close()


def test_every_block_of_code_is_of_a_kind_that_is_run_or_compared():
    for page in PAGES:
        fences = re.findall(r"^ *```.*$", page.read_text("utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= {f"```{kind}" for kind in KINDS}, page
        assert set(fences[1::2]) <= {"```"}, page


async def test_the_handler_of_the_readme_is_run_once_for_an_asker_that_has_left():
    [source] = [text for _, text in blocks(ROOT / "README.md") if "async def handle" in text]
    handler = next(one for one in ast.parse(source).body if isinstance(one, ast.AsyncFunctionDef))
    with FakeBroker() as broker:
        async with broker.client() as client:
            namespace = {"client": client}
            await run(ast.unparse(handler), namespace)
            runs = []

            async def handle(message):
                runs.append(message.text)
                return await namespace["handle"](message)

            await client.mailbox_create(name="agent.inbox")
            await client.send("agent.inbox", "water the plants", reply_to="asker.who.has.left")
            async with await client.consume(
                "agent.inbox", handle, group_name="helpers", deliver="earliest"
            ) as consumer:
                await broker.clock.advance(86_400)
                assert runs == ["water the plants"]
                assert consumer.counters.unanswered == 1


def test_the_make_commands_of_every_page_are_there():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for page in PAGES:
        for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE):
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), (page.name, name)


def test_every_link_inside_the_repository_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8").replace("\n", " ")):
            if not target.startswith("https://"):
                assert (page.parent / target).exists(), (page.name, target)
