"""Pages read themselves, as far as a program can tell: see ``prose.py`` for the rules."""

from pathlib import Path

import pytest
from prose import findings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Pages that are still to be written in plain words. A page that has no finding may not stand here.
PENDING: set[str] = {
    "CONTRIBUTING.md",
    "docs/explanation/architecture.md",
    "docs/explanation/comparison.md",
    "docs/explanation/concepts.md",
    "docs/explanation/discovery.md",
    "docs/explanation/performance.md",
    "docs/explanation/security.md",
    "docs/how-to/coming-from.md",
    "docs/how-to/command-line.md",
    "docs/how-to/desk.md",
    "docs/how-to/mailbox.md",
    "docs/how-to/mcp-http.md",
    "docs/how-to/monitoring.md",
    "docs/how-to/nats-clients.md",
    "docs/how-to/robustmq.md",
    "docs/how-to/server.md",
    "docs/how-to/testing.md",
    "docs/how-to/tracing.md",
    "docs/how-to/users.md",
    "docs/how-to/when-things-fail.md",
    "docs/langgraph/alternatives.md",
    "docs/langgraph/approval.md",
    "docs/langgraph/deploy.md",
    "docs/langgraph/index.md",
    "docs/langgraph/middleware.md",
    "docs/langgraph/scenarios.md",
    "docs/langgraph/tools.md",
    "docs/reference/cli.md",
    "docs/reference/errors.md",
    "docs/reference/index.md",
    "docs/reference/mcp.md",
    "docs/reference/metrics.md",
    "docs/reference/nats.md",
    "docs/reference/older-generations.md",
    "docs/reference/protocol.md",
    "docs/reference/python/client.md",
    "docs/reference/python/consumer.md",
    "docs/reference/python/models.md",
    "docs/reference/settings.md",
    "docs/tutorial/first-mail.md",
    "docs/tutorial/first-worker.md",
    "docs/tutorial/two-hosts.md",
}


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_plain(page):
    found = list(findings(page.read_text()))
    if name(page) in PENDING:
        assert found, f"{name(page)} is plain now: remove it from PENDING"
    else:
        assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("markdown", "finding"),
    [
        ("# What goes in", "1: a heading begins with 'What'"),
        ("# Input\n\nWho writes is known.", "3: a sentence begins with 'Who'"),
        ("Send it to whoever asked.", "1: 'whoever'"),
        ("- " + "word " * 31, "1: a sentence of 31 words"),
        ("Five words stand here now. " * 19, "1: a paragraph of 95 words"),
    ],
)
def test_each_rule_finds_its_breach(markdown, finding):
    assert [one for one in findings(markdown) if one.startswith(finding)]


@pytest.mark.parametrize(
    "markdown", ["# What is a lease?", "```text\nwhoever\n```", "`whoever` is code."]
)
def test_questions_and_code_are_left_alone(markdown):
    assert not list(findings(markdown))
