"""Commands that other packages add by entry points."""

import subprocess
import sys

import pytest

from mq9.cli import MissingExtra, plugins
from mq9.errors import InvalidRequest


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Install a distribution that has some entry points."""

    def install(name, *lines):
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("\n".join([f"[{plugins.COMMANDS}]", *lines, ""]))

    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return install


def test_ours_are_found():
    assert plugins.names(plugins.COMMANDS) == {"mcp", "worker"}
    assert plugins.names(plugins.ROUTES) == {"mcp"}


def test_what_nobody_has_or_two_have_is_refused(distribution):
    with pytest.raises(InvalidRequest, match=r"^nothing: one .* mq9.commands, and there is none;"):
        plugins.load(plugins.COMMANDS, "nothing")
    distribution("one", "extra = json:dumps")
    assert plugins.load(plugins.COMMANDS, "extra").__name__ == "dumps"
    distribution("two", "extra = json:loads")
    with pytest.raises(InvalidRequest, match="json:dumps and json:loads"):
        plugins.load(plugins.COMMANDS, "extra")


def test_what_its_package_lacks_is_told(distribution, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    distribution("one", "extra = tomlkit:parse")
    with pytest.raises(MissingExtra, match=r"^extra: it needs tomlkit, which the extra `extra`"):
        plugins.load(plugins.COMMANDS, "extra")


@pytest.mark.parametrize("value", ["json.moved:dumps", "json:moved", "json.moved"])
def test_an_entry_point_of_an_older_installation_is_told(distribution, value):
    distribution("one", f"extra = {value}")
    with pytest.raises(InvalidRequest, match=f"^extra: .* {value}, which is not there; install"):
        plugins.load(plugins.COMMANDS, "extra")


def test_its_summary_is_there_without_it(distribution, monkeypatch):
    distribution("one", "other = json:dumps", "extra = tomlkit:parse")
    assert plugins.summary("other") == ""
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    assert plugins.summary("extra").startswith("extra: it needs tomlkit, which the extra `extra`")


@pytest.mark.programs
def test_its_summary_is_read_without_the_packages_that_it_is_in():
    script = (
        "import sys\nfrom mq9.cli import plugins\nprint(plugins.summary('worker'), *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("Run a LangGraph graph for each message")
    assert not {"langchain_mq9", "langchain_core", "langgraph"} & set(done.stdout.split())


def test_a_module_in_a_package_that_is_not_there_is_told_of(distribution):
    distribution("one", "extra = json.nothing:parse", "other = nowhere.inner:parse")
    for name, missing in (("extra", "json.nothing"), ("other", "nowhere.inner")):
        assert plugins.summary(name).startswith(f"{name}: it needs {missing}, which the extra")
