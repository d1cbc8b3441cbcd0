"""The official conformance suite, put to the server."""

import json
import re
from pathlib import Path

import pytest
from conformance_table import RUNS, rows, version

from tests.mcpserver.programs import McpServing, conformance, needs_node

DOCS = Path(__file__).parents[2] / "docs/reference/mcp.md"


@pytest.mark.programs
@pytest.mark.unmeasured
@needs_node
@pytest.mark.parametrize("run", RUNS, ids=[name for name, *_ in RUNS])
def test_what_does_not_pass_does_not_apply(tmp_path, run):
    _, protocol, sessions = run
    apart, scenarios, checks = RUNS[run]
    options = ("--agent", "conformance", "--server", "memory://conformance")
    with McpServing(tmp_path, *options, *([] if sessions else ["--stateless"])) as server:
        asked = ("--spec-version", protocol, "--suite", "all", "--output-dir", "results")
        printed = conformance(tmp_path, "server", "--url", server.url, *asked)
    said = "\n".join([printed.stdout, printed.stderr, server.told])
    found = {
        re.fullmatch(r"server-(.+?)-\d{4}-\d\d-\d\dT.*", one.parent.name)[1]: json.loads(
            one.read_text("utf-8")
        )
        for one in tmp_path.glob("results/*/checks.json")
    }
    others = {
        name: {one["id"] for one in written if one["status"] not in {"SUCCESS", "INFO"}}
        for name, written in found.items()
    }
    # Of a scenario that finds nothing to check the suite only says so.
    skipped = {
        name: {one["id"] for one in written}
        for name, written in found.items()
        if len(written) == 1 and written[0]["status"] == "INFO"
    }
    assert {name: ids for name, ids in (others | skipped).items() if ids} == {
        name: set(reasons) for name, reasons in apart.items()
    }, said
    passed = [one for written in found.values() for one in written if one["status"] == "SUCCESS"]
    assert (len(found) - len(apart), len(passed)) == (scenarios, checks), said


def test_the_docs_say_so():
    assert f"suite {version()}" in DOCS.read_text("utf-8")
    assert "\n".join(rows()) in DOCS.read_text("utf-8")
