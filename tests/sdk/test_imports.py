"""What importing mq9 loads, and what it offers."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

import mq9
import mq9.testing

HEAVY = ("pydantic", "nats", "numpy", "mcp", "langchain_core", "platformdirs", "pytest", "sqlite3")


def modules_after(statement):
    """The top-level names that a fresh interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
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


def test_making_a_client_loads_nothing_heavy_either():
    loaded = modules_after("import mq9\nmq9.Mq9Client('memory://x')")
    assert not loaded & {*HEAVY, "sqlite3"}


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


@pytest.mark.parametrize("module", [mq9, mq9.testing])
def test_what_a_module_offers_is_sorted_and_there(module):
    offered = module.__all__
    assert offered == sorted(set(offered))
    for name in offered:
        assert getattr(module, name).__doc__


def test_everything_public_is_offered():
    assert mq9._MODULES.keys() == set(mq9.__all__) <= set(dir(mq9))
    for name, module in mq9._MODULES.items():
        assert getattr(mq9, name) is getattr(import_module(f"mq9.{module}"), name)
    with pytest.raises(AttributeError, match="'mq9' has no attribute 'nothing'"):
        assert mq9.nothing
    for module in {one.partition(".")[0] for one in mq9._MODULES.values()}:
        assert "mq9" in modules_after(f"import mq9\nassert mq9.{module}.__name__ == 'mq9.{module}'")


def test_every_error_is_offered():
    def tree(kind):
        yield kind
        for child in kind.__subclasses__():
            if child.__module__ == "mq9.errors":
                yield from tree(child)

    assert {kind.__name__ for kind in tree(mq9.Mq9Error)} <= set(mq9.__all__)
