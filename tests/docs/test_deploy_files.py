"""The files in `deploy/`: their metrics, options and paths are those of the product."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mq9.server.settings import ServerSettings, option, variable

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus.rules.yaml").read_text("utf-8"))
ALERTS = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule
}
RECORDED = {
    rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule
}
UNITS = sorted(DEPLOY.glob("*.service"))
METRIC = re.compile(r"\b((?:mq9|process)_\w+|mq9:\w+)\b(?=[{\[) ]|$)")
METRICS = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
DOCUMENTED = set(re.findall(r"^\| `(\w+)` \|", METRICS, re.MULTILINE))
OPERATE = (ROOT / "docs/how-to/operate.md").read_text("utf-8")


def metrics_in(expression):
    return {
        re.sub(r"_bucket$", "", name)
        for name in METRIC.findall(re.sub(r'"[^"]*"', '""', expression))
    }


def expressions():
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in json.loads((DEPLOY / "grafana.json").read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("name", "expression"), list(expressions()))
def test_an_expression_reads_metrics_that_exist(name, expression):
    found = metrics_in(expression) - {"up"}
    assert found or "up{" in expression
    assert found <= DOCUMENTED | RECORDED, name


def test_the_guide_has_a_row_for_each_alert():
    table = OPERATE.partition("## Alerts")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(Mq9\w+)`", table)) == set(ALERTS)
    assert all(rule["annotations"]["summary"] for rule in ALERTS.values())


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_server_with_options_that_exist(unit, tmp_path):
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    parser.read(unit)
    service = parser["Service"]
    _, command, *words = shlex.split(service["ExecStart"])
    known = {f"--{option(name)}" for name in ServerSettings.model_fields}
    assert command == "serve"
    given = [word for word in words if word.startswith("--")]
    assert set(given) <= known
    assert int(service["TimeoutStopSec"]) > int(words[words.index("--drain") + 1])
    assert "HUP" in service["ExecReload"]
    analyze = shutil.which("systemd-analyze")
    if analyze:
        # Only what is said of the unit: its program and its user are not on this machine.
        copy = tmp_path / unit.name.replace("@", "@one")
        copy.write_text(unit.read_text("utf-8"))
        done = subprocess.run(
            [analyze, "verify", copy], capture_output=True, text=True, check=False
        )
        assert not re.search(r"Unknown (key|section|lvalue)|Failed to parse", done.stderr)


def test_kubernetes_gives_the_containers_variables_that_exist():
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))
    sets = {one["metadata"]["name"]: one for one in documents if one["kind"] == "StatefulSet"}
    known = {variable(name) for name in ServerSettings.model_fields}
    assert set(sets) == {"mq9", "mq9-gateway"}
    for one in sets.values():
        pod = one["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert {entry["name"] for entry in container["env"]} <= known
        mounted = {entry["name"] for entry in container["volumeMounts"]}
        claimed = {claim["metadata"]["name"] for claim in one["spec"]["volumeClaimTemplates"]}
        assert mounted == claimed | {volume["name"] for volume in pod.get("volumes", ())}
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        drain = ServerSettings.model_fields["drain"].default
        assert pod["terminationGracePeriodSeconds"] > drain
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"] == labels
