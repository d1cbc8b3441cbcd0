"""The official conformance suite, put to the server."""

import json

import pytest

from tests.mcp.programs import McpServing, conformance, needs_node

pytestmark = needs_node

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
    with McpServing(
        tmp_path_factory.mktemp("stateful"), "--agent", "conformance", "--server", "memory://stateful"
    ) as serving:
        yield serving


@pytest.fixture(scope="module")
def stateless(tmp_path_factory):
    with McpServing(
        tmp_path_factory.mktemp("stateless"),
        *("--stateless", "--agent", "conformance", "--server", "memory://stateless"),
    ) as serving:
        yield serving


@pytest.mark.parametrize(("version", "scenario"), EACH)
def test_a_server_that_keeps_sessions_conforms(stateful, tmp_path, version, scenario):
    assert set(checked(stateful, tmp_path, version, scenario).values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    ("version", "scenario"), [one for one in EACH if one[1] not in NEED_A_SESSION]
)
def test_a_server_that_keeps_none_conforms(stateless, tmp_path, version, scenario):
    found = checked(stateless, tmp_path, version, scenario)

    if scenario == "server-initialize":
        # Said of a server that gives no session a name, which it need not.
        assert found.pop("server-session-id-visible-ascii") == "INFO"
    assert set(found.values()) == {"SUCCESS"}


def checked(serving, directory, version, scenario):
    """Run one scenario; what each of its checks found.

    The suite ends well also when it has skipped or only warned: what counts is what it wrote.
    """
    printed = conformance(
        directory,
        *("server", "--url", serving.url, "--spec-version", version),
        *("--scenario", scenario, "--output-dir", "results"),
    )
    print(printed.stdout, printed.stderr, serving.told)
    assert printed.returncode == 0
    [written] = directory.glob("results/*/checks.json")
    checks = json.loads(written.read_text("utf-8"))
    worst = sorted(checks, key=lambda check: check["status"] != "SUCCESS")  # it stays, of its name
    assert checks
    return {check["id"]: check["status"] for check in worst}
