"""LangGraph threads of one agent: each has a private mailbox for its answers."""

import os
import subprocess
import sys

import pytest

from langchain_mq9.threads import thread_mailbox
from mq9 import address


def test_the_address_of_a_threads_mailbox_is_the_same_in_every_process():
    program = (
        "import sys; from langchain_mq9.threads import thread_mailbox;"
        "print(thread_mailbox(*sys.argv[1:]))"
    )

    def printed(key):
        environment = {**os.environ, "MQ9_AGENT_KEY": key}
        command = [sys.executable, "-c", program, "planner", "7"]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert printed(os.environ["MQ9_AGENT_KEY"]) == thread_mailbox("planner", "7")
    assert printed("another key of other agents, as long") != thread_mailbox("planner", "7")


@pytest.mark.parametrize("thread_id", ["7", "", "x" * 1_000, "Grüße\0\udc80"])
def test_every_thread_has_an_address_of_its_own(thread_id):
    found = thread_mailbox("planner", thread_id)

    assert address.parse(found) == found
    assert found.startswith("thread.")
    assert len({found, thread_mailbox("planner", "8"), thread_mailbox("worker", thread_id)}) == 3
