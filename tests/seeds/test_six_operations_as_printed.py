"""The Python snippets of the page on six operations run as printed, against `mq9 serve`.

The page lies beside the repository, and nothing of it is copied here. Only the address of the
server is replaced, and what the page takes for granted is defined.
"""

import contextlib
import io
import queue
import time
import types
from pathlib import Path

import pytest

from mq9 import Mailbox
from tests.seeds.printed import fenced
from tests.serving import Serving

PAGE = Path(__file__).parents[3] / "shared/seeds/readme.md"

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(not PAGE.is_file(), reason="the page is not beside the repository"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("served"), "--memory") as server:
        yield server.url


@pytest.fixture
def mb(url):
    with Mailbox(url) as one:
        yield one


def snippet(number, url):
    return fenced(PAGE.read_text("utf-8"), "python")[number].replace("nats://localhost:4222", url)


def run(code, **names):
    """Run a snippet; what it prints, which may go on, and the names that it has then."""
    program = compile(code, "snippet", "exec")
    types.FunctionType(program, names)()
    return names


def test_the_page_holds_as_many_snippets_as_are_run_here():
    assert len(fenced(PAGE.read_text("utf-8"), "python")) == 3


@pytest.mark.quick
def test_the_six_operations(url, mb):
    mail_id = mb.create()["mail_id"]
    msg_id = mb.send(mail_id, "deleted by the snippet")
    code = snippet(0, url)
    for operation in ("create", "send", "receive", "fetch", "delete", "list"):
        assert f"mb.{operation}(" in code

    run(code, mb=mb, mail_id=mail_id, payload="sent by the snippet", msg_id=msg_id)

    assert [message.text for message in mb.fetch(mail_id)] == ["sent by the snippet"]


def test_the_quick_start_prints_what_was_sent(url):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        names = run(snippet(1, url), __builtins__=__builtins__)
        deadline = time.monotonic() + 30
        while "\n" not in printed.getvalue():  # the callback's thread has printed
            assert time.monotonic() < deadline
            time.sleep(0.01)
        names["mb"].close()

    sent = f'{{"from":"{names["agent_a"]["mail_id"]}","type":"task","payload":"analyze this"}}'
    assert printed.getvalue() == (f"message 0 of {names['agent_b']['mail_id']}, normal: {sent}\n")


def test_one_of_the_competing_workers_handles_a_task(url, mb):
    handled = queue.Queue()
    for _ in range(2):
        run(snippet(2, url), mb=mb, handle_task=handled.put)

    [listed] = [one for one in mb.list() if one["mail_id"] == "task.queue"]
    assert listed["desc"] == "main task queue"
    for number in range(3):
        mb.send("task.queue", str(number))
    assert sorted(handled.get(timeout=30).text for _ in range(3)) == ["0", "1", "2"]
    mb.close()
    assert handled.empty()
