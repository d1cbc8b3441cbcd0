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


USES_A_BROKER = """
import asyncio, mq9
async def main():
    async with mq9.Mq9Client('memory://x') as client:
        await client.mailbox_create(name='inbox')
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("statement", "loads"),
    [
        ("import mq9", set()),
        pytest.param("import mq9; mq9.Mq9Client('memory://x')", set(), marks=pytest.mark.programs),
        pytest.param(USES_A_BROKER, {"sqlite3"}, marks=pytest.mark.programs),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(statement, loads):
    assert modules_after(statement) & set(HEAVY) == loads


@pytest.mark.programs
def test_importing_the_tools_loads_neither_a_worker_nor_langgraph():
    loaded = modules_after("import langchain_mq9", whole=True)
    assert "langchain_mq9.session" in loaded
    assert "langgraph" not in loaded
    assert not [name for name in loaded if name.startswith("langchain_mq9.worker")]
    assert "langchain_mq9.worker" in modules_after(
        "from langchain_mq9 import MailboxWorker", whole=True
    )
