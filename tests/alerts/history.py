"""Scrapes of real endpoints at instants that a test chooses, and what Prometheus makes of them.

A scrape is repeated for some minutes of the time of Prometheus, so no test waits for `for: 5m`. The
tool of the Prometheus project then evaluates the rules over all of them.
"""

import asyncio
import subprocess
from pathlib import Path

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
PROMTOOL = ROOT / ".tools/promtool"
RULES = ROOT / "deploy/prometheus.rules.yaml"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
JOB = "mq9"


def firing(alert, *instances, **labels):
    """An alert of the job, or of instances of it, as Prometheus sends it, with further labels."""
    labels = [{"instance": one} for one in instances] or [labels]
    return alert, [{"job": JOB, **one, "severity": _severity(alert)} for one in labels]


def _severity(alert):
    return ALERTS[alert]["labels"]["severity"]


class History:
    """The scraped metrics of each minute.

    Args:
        directory: Where it may write.
        targets: The addresses of metrics by the names of their instances; None for a target that is
            known to be down.

    Attributes:
        state: The label of the state that was scraped last.
    """

    def __init__(self, directory, **targets):
        self._directory = directory
        self.targets = targets
        self.state = None
        self._minutes = 0
        self._series = {}
        self._expected = []
        self._values = []

    async def scrape(self, minutes):
        """Scrape each target now, and take it that it says the same for so many minutes.

        Returns:
            The values of the samples without labels but the state, by instance and name.
        """
        found = await asyncio.gather(*map(_scraped, self.targets.values()))
        values = {}
        for instance, samples in zip(self.targets, found, strict=True):
            self._note(minutes, "up", {}, instance, int(samples is not None))
            for sample in samples or ():
                self._note(minutes, sample.name, sample.labels, instance, sample.value)
                self.state = sample.labels.get("state", self.state)
                if not sample.labels.keys() - {"state"}:
                    values[instance, sample.name] = sample.value
        self._minutes += minutes
        return values

    def _note(self, minutes, name, labels, instance, value):
        pairs = {"job": JOB, "instance": instance, **labels}
        written = ", ".join(f'{key}="{_escaped(text)}"' for key, text in pairs.items())
        values = self._series.setdefault(f"{name}{{{written}}}", [])
        # A target that no longer has a series, or no longer answers, ends it.
        missing = "stale" if values else "_"
        values += [missing] * (self._minutes - len(values)) + [value] * minutes

    def expect(self, *alerts):
        """These alerts, and no others, fire at the present minute."""
        self._expected.append((self._minutes - 1, dict(alerts)))

    def expect_value(self, expression, value):
        """An expression has this value at the present minute, without labels."""
        self._values.append((self._minutes - 1, expression, value))

    def check(self):
        """See that exactly the expected alerts fired, and that expressions have their values."""
        tests = {
            "interval": "1m",
            "input_series": [
                {"series": series, "values": " ".join(map(str, self._until_now(values)))}
                for series, values in self._series.items()
            ],
            "alert_rule_test": [
                {
                    "eval_time": f"{minute}m",
                    "alertname": alert,
                    "exp_alerts": [
                        {"exp_labels": one, "exp_annotations": {"summary": _summary(alert, one)}}
                        for one in fired.get(alert, ())
                    ],
                }
                for minute, fired in self._expected
                for alert in ALERTS
            ],
            "promql_expr_test": [
                {
                    "eval_time": f"{minute}m",
                    "expr": expression,
                    "exp_samples": [{"labels": "{}", "value": value}],
                }
                for minute, expression, value in self._values
            ],
        }
        file = self._directory / "rules_test.yaml"
        document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [tests]}
        file.write_text(yaml.safe_dump(document), "utf-8")
        command = [PROMTOOL, "test", "rules", file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _until_now(self, values):
        return values + ["stale"] * (self._minutes - len(values))


def _summary(alert, labels):
    text = ALERTS[alert]["annotations"]["summary"]
    for name, value in labels.items():
        text = text.replace(f"{{{{ $labels.{name} }}}}", value)
    return text


def _escaped(text):
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def _scraped(url):
    """All samples of a target; None if it does not answer."""
    if url is None:
        return None
    async with httpx.AsyncClient(timeout=10) as http:  # as long as Prometheus waits
        try:
            response = await http.get(url)
        except httpx.TransportError:
            return None
    response.raise_for_status()
    families = text_string_to_metric_families(response.text)
    return [sample for family in families for sample in family.samples]
