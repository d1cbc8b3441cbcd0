"""Commands that the packages above add."""

import subprocess
import sys

import pytest

from mq9.cli import MissingExtra, plugins


def test_what_its_package_lacks_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    monkeypatch.setitem(plugins.COMMANDS, "extra", "tomlkit:parse")
    with pytest.raises(MissingExtra, match=r"^extra: it needs tomlkit, which the extra `extra`"):
        plugins.load(plugins.COMMANDS, "extra")


@pytest.mark.programs
def test_they_are_listed_without_their_packages():
    script = (
        "import atexit, sys\nsys.argv[1:] = ['--help']\n"
        "atexit.register(lambda: print('loaded:', *sys.modules))\nimport mq9.cli\nmq9.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    listed, _, loaded = done.stdout.partition("loaded:")
    assert "\n  worker  " in listed
    assert not {"langchain_mq9", "langchain_core", "langgraph", "mcp"} & set(loaded.split())
