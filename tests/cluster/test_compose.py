"""The compose file of a cluster: what it says to each program is what that program takes.

No container engine is needed.
"""

import subprocess
from pathlib import Path

import nats_server
import pytest
import yaml

from mq9.server.settings import ServerSettings
from mq9.transport import servers

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.cluster.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
SERVERS = [name for name in SERVICES if name.startswith("nats-")]
GATEWAYS = [name for name in SERVICES if name.startswith("gateway-")]


def image_environment():
    text = (ROOT / "Dockerfile").read_text("utf-8")
    _, block = text.split("\nENV ")
    lines = block.partition("\nUSER")[0].replace("\\\n", " ")
    return dict(pair.split("=", 1) for pair in lines.split())


def test_there_are_as_many_as_it_says():
    assert (len(SERVERS), len(GATEWAYS)) == (3, 2)


@pytest.mark.programs
def test_the_servers_take_their_configuration(tmp_path):
    file = tmp_path / "nats.conf"
    file.write_text(COMPOSE["configs"]["nats"]["content"].replace("/data", str(tmp_path / "data")))
    for name in SERVERS:
        _, _, *options = SERVICES[name]["command"]
        done = subprocess.run(
            [nats_server.binary(), "-t", "--config", file, *options],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "configuration file" in done.stderr, done.stderr
        assert "is valid" in done.stderr, done.stderr


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_gateways_take_their_settings(name, monkeypatch):
    for variable, value in {**image_environment(), **SERVICES[name]["environment"]}.items():
        if variable.startswith("MQ9_"):
            monkeypatch.setenv(variable, value)

    settings = ServerSettings()

    members = servers.parse(settings.cluster.get_secret_value()).members
    assert [member.host for member in members] == SERVERS
    assert "port" not in settings.model_fields_set
    assert str(settings.data).startswith("/data/")


def test_prometheus_asks_the_gateways_by_names_that_they_have():
    config = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])
    [scraped] = config["scrape_configs"]
    targets = scraped["static_configs"][0]["targets"]
    assert [target.partition(":")[0] for target in targets] == GATEWAYS
    for name in GATEWAYS:
        assert SERVICES[name]["environment"]["MQ9_ADMIN_ALLOW_HOST"] == name


def test_only_this_machine_reaches_the_ports():
    ports = [port for one in SERVICES.values() for port in one.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
