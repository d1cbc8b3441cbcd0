"""What two pages print of the current protocol runs as it is printed, against `mq9 serve`.

The pages lie beside the repository, and nothing of them is copied here: the snippets are taken from
them when this runs. Only the address of the server is replaced.
"""

import ast
import asyncio
import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import types
from pathlib import Path

import pytest

from langchain_mq9.testing import ScriptedModel, call
from mq9 import MailboxNotFound, Priority
from tests.seeds.printed import marked_python, shell, unmarked_python

ROOT = Path(__file__).parents[2]
PAGES = ROOT.parent / "shared/seeds"
NATS = ROOT / ".tools/nats"

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(not PAGES.is_dir(), reason="the pages are not beside the repository"),
]

# What does not run as it is printed, by its place on the page, and why.
SIGNATURES = {1, 3, 5, 7, 9, 10, 12, 13, 14, 16, 17, 18}
NOT_RUN = {
    **{("python-sdk.md", number): "a signature and no program" for number in SIGNATURES},
    ("python-sdk.md", 15): "leaves the card to the reader: its arguments are three dots",
    ("python-sdk.md", 20): "describes a class whose end the page runs together with prose",
    ("python-sdk.md", 22): "describes a class, whose method has no body",
}
COUNTS = {"python-sdk.md": 24, "for-engineer.md": 8}
PRINTED = [(page, number) for page, count in COUNTS.items() for number in range(count)]
# Ids are the broker's: ours counts from 0, and one message has been sent to that mailbox.
REFUSED = {5: "message not found: 3 was not delivered"}


def page(name):
    return (PAGES / name).read_text("utf-8")


def python(name):
    return marked_python(page(name)) if name == "python-sdk.md" else unmarked_python(page(name))


class Mailboxes:
    """The mailboxes that a snippet takes for granted, with a message in each."""

    def __init__(self, client, code):
        named = set(re.findall(r'"([a-z0-9]+\.[a-z0-9]+)"', code))
        made = set(re.findall(r'mailbox_create\(name="([^"]+)"', code))
        self._client = client
        self._names = named
        self._there = named if "except" in code else named - made

    async def __aenter__(self):
        for name in self._there:
            await self._client.mailbox_create(name=name)
            await self._client.send(name, {"task": "was there before"})

    async def __aexit__(self, *_):
        for name in self._names:
            with contextlib.suppress(MailboxNotFound):
                await self._client.mailbox_drop(name)


class Processed(list):
    """Notes what a snippet has processed, awaited or not."""

    def __call__(self, message):
        self.append(message.text)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def run(code, names):
    """Run a snippet, which may await at its top level; what it prints."""
    program = compile(code, "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if "asyncio.run(" in code:
            await asyncio.to_thread(types.FunctionType(program, names))
        else:
            result = types.FunctionType(program, names)()
            if inspect.isawaitable(result):
                await result
    return printed.getvalue()


def test_the_pages_hold_as_many_snippets_as_are_run_here():
    assert {name: len(python(name)) for name in COUNTS} == COUNTS
    assert len(shell(page("for-engineer.md"))) == 12


@pytest.mark.parametrize(("name", "number"), PRINTED)
async def test_a_python_snippet_runs_as_printed(name, number, served, client, monkeypatch):
    if (name, number) in NOT_RUN:
        pytest.skip(NOT_RUN[name, number])
    monkeypatch.delenv("MQ9_SERVER", raising=False)
    code = re.sub(r"nats://localhost:4222", served.url, python(name)[number])
    process = Processed()

    async def async_handler(message):
        process.append(message.text)

    names = {  # what the pages take for granted
        "__builtins__": __builtins__,
        "__name__": "snippet",
        "async_handler": async_handler,
        "client": client,
        "dataclass": dataclasses.dataclass,
        "json": json,
        "llm": ScriptedModel(call("agent_discover"), "Nobody."),
        "payload": b"an order",
        "Priority": Priority,
        "process": process,
        "task_payload": b"a task",
    }
    async with Mailboxes(client, code):
        printed = await run(code, names)
        if "asyncio.run(" in code:
            [sent] = re.findall(r"send\(\w+, (\{.*\})\)", code)
            assert json.loads(ast.literal_eval(printed[printed.index("b'") :])) == json.loads(sent)
        if "process(" in code:
            assert process == [names["messages"][0].text, *process[1:]]
        if "except" in code:
            assert printed.strip() in code
    for made in ("client", "toolkit"):
        if names.get(made) is not client and made in names:
            closed = names[made].close()
            if inspect.isawaitable(closed):
                await closed


@pytest.mark.skipif(not NATS.exists(), reason="make builds the nats command only with Go")
async def test_the_shell_lines_run_in_order_as_printed(served, client, tmp_path):
    lines = shell(page("for-engineer.md"))
    addressed = {found[1] for line in lines if (found := re.search(r"FETCH\.([a-z0-9.]+)", line))}
    made = {found[1] for line in lines if (found := re.search(r'\{"name":"([a-z0-9.]+)"', line))}
    await client.agent_discover(semantic="anything")  # loads what finds agents by meaning
    for taken_for_granted in addressed - made:
        await client.mailbox_create(name=taken_for_granted)
        await client.send(taken_for_granted, "was there before")
    environment = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "PATH": os.pathsep.join([str(NATS.parent), os.environ["PATH"]]),
        "NATS_URL": served.url,
    }
    replies = []
    for line in lines:
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-euc", line),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, told = await process.communicate()
        assert process.returncode == 0, (line, out, told)
        replies.append(json.loads(out))

    for number, reply in enumerate(replies):
        assert reply["error"].startswith(REFUSED.get(number, ""))
        assert bool(reply["error"]) == (number in REFUSED), (number, reply)
    found, quick, reply, answer = (replies[number] for number in (1, 4, 8, 11))
    assert len(found["agents"]) == 1
    assert [message["priority"] for message in quick["messages"]] == ["critical"]
    assert [message["msg_id"] for message in reply["messages"]] == [0, 1]
    assert answer["messages"][-1]["payload"] in page("for-engineer.md")
