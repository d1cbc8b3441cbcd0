"""What importing mq9 loads."""

import os
import subprocess
import sys

import pytest

HEAVY = ("pydantic", "nats", "numpy", "mcp", "langchain_core", "platformdirs", "pytest", "sqlite3")


def modules_after(statement, *, whole=False):
    """What a fresh interpreter has loaded after a statement: top-level names, or whole ones."""
    name = "name" if whole else "name.partition('.')[0]"
    script = f"{statement}\nimport sys\nprint(*{{{name} for name in sys.modules}})"
    # Measuring coverage loads modules of its own.
    environment = {key: value for key, value in os.environ.items() if "COVERAGE" not in key}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment,
    )
    return set(done.stdout.split())


def test_importing_mq9_loads_nothing_heavy():
    assert not modules_after("import mq9") & set(HEAVY)


@pytest.mark.programs
def test_making_a_client_loads_nothing_heavy_either():
    loaded = modules_after("import mq9\nmq9.Mq9Client('memory://x')")
    assert not loaded & {*HEAVY, "sqlite3"}


@pytest.mark.programs
def test_using_a_broker_in_this_process_needs_no_other_package():
    loaded = modules_after(
        "import asyncio, mq9\n"
        "async def main():\n"
        "    async with mq9.Mq9Client('memory://x') as client:\n"
        "        await client.mailbox_create(name='inbox')\n"
        "asyncio.run(main())"
    )
    assert not loaded & {*HEAVY} - {"sqlite3"}
    assert "sqlite3" in loaded


@pytest.mark.programs
def test_importing_the_tools_loads_neither_a_worker_nor_langgraph():
    loaded = modules_after("import langchain_mq9", whole=True)
    assert "langchain_mq9.session" in loaded
    assert "langgraph" not in loaded
    assert not [name for name in loaded if name.startswith("langchain_mq9.worker")]
    assert "langchain_mq9.worker" in modules_after(
        "from langchain_mq9 import MailboxWorker", whole=True
    )
