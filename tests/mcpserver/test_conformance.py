"""The official conformance suite, put to the server."""

import json

import pytest

from tests.mcpserver.programs import McpServing, conformance, needs_node

pytestmark = [pytest.mark.programs, needs_node]

# What a server answers without the tools and prompts that the suite has for its own servers.
SCENARIOS = {
    "2025-11-25": [
        "server-initialize",
        "server-session-lifecycle",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "completion-complete",
        "dns-rebinding-protection",
        "server-sse-multiple-streams",
        "resources-subscribe",
        "resources-unsubscribe",
    ],
    "2026-07-28": [
        "tools-list",
        "resources-list",
        "prompts-list",
        "completion-complete",
        "caching",
        "http-header-validation",
        "sep-2164-resource-not-found",
        "dns-rebinding-protection",
    ],
}
EACH = [(version, name) for version, names in SCENARIOS.items() for name in names]
# Without a session there is nobody who could be told of anything later.
NEED_A_SESSION = {
    "server-session-lifecycle",
    "server-sse-multiple-streams",
    "resources-subscribe",
    "resources-unsubscribe",
}


@pytest.fixture(scope="module")
def stateful(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("stateful")) as server:
        yield server


@pytest.fixture(scope="module")
def stateless(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("stateless"), "--stateless") as server:
        yield server


@pytest.mark.parametrize(("version", "scenario"), EACH)
def test_a_server_that_keeps_sessions_conforms(stateful, tmp_path, version, scenario):
    conforms(stateful, tmp_path, version, scenario)


@pytest.mark.parametrize(
    ("version", "scenario"), [one for one in EACH if one[1] not in NEED_A_SESSION]
)
def test_a_server_that_keeps_none_conforms(stateless, tmp_path, version, scenario):
    # A session need not have a name, and so need not be: the suite only mentions it.
    mentioned = [("server-session-id-visible-ascii", "INFO")]
    expected = mentioned if scenario == "server-initialize" else ()

    conforms(stateless, tmp_path, version, scenario, expected)


def serving(directory, *options):
    return McpServing(
        directory, *options, "--agent", "conformance", "--server", f"memory://{directory.name}"
    )


def conforms(server, directory, version, scenario, expected=()):
    """Run a scenario, and see that all of its checks are a success, but for those expected.

    What counts is what the suite wrote: its exit code is good, too, when it has only warned, or
    skipped everything.
    """
    printed = conformance(
        directory,
        *("server", "--url", server.url, "--spec-version", version),
        *("--scenario", scenario, "--output-dir", "results"),
    )
    said = "\n".join([printed.stdout, printed.stderr, server.told])
    assert printed.returncode == 0, said
    written = [one.read_text("utf-8") for one in directory.glob("results/*/checks.json")]
    assert len(written) == 1, said
    checks = json.loads(written[0])
    assert checks, said
    others = [(one["id"], one["status"]) for one in checks if one["status"] != "SUCCESS"]
    assert others == list(expected), said
