"""The compose file of a server with TLS: the server takes its settings, and Prometheus the rules.

No container engine is needed: the command is started as it stands, with other paths.
"""

import re
from pathlib import Path

import httpx
import pytest
import trustme
import yaml
from serving import Serving
from users_file import write_users

from mq9 import Mq9Client, Unreachable
from mq9.errors import PayloadTooLarge, Unauthorized

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.tls.yaml").read_text("utf-8"))
SERVER, PROMETHEUS = COMPOSE["services"]["server"], COMPOSE["services"]["prometheus"]


@pytest.mark.programs
async def test_the_server_has_tls_users_and_limits(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server_crt")
    certificate.private_key_pem.write_to_path(tmp_path / "server_key")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    write_users(tmp_path, '[[users]]\nagent = "Ada"\ntoken = "secret"\n', "users")
    environment = {
        name: value.replace("/run/secrets", str(tmp_path)).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        for name, value in SERVER["environment"].items()
    }
    assert SERVER["command"] == ["serve"]
    options = ("--data", str(tmp_path / "mail.db"))
    async with Serving(tmp_path, *options, admin=True, environment=environment) as server:
        url = server.url.replace("tls://", "tls://secret@") + f"?tls_ca={tmp_path}/ca"
        async with Mq9Client(url) as ada:
            assert await ada.whoami() == "Ada"
            await ada.mailbox_create(name="ada")
            with pytest.raises(PayloadTooLarge):
                await ada.send("ada", bytes(int(environment["MQ9_MAX_PAYLOAD"]) + 1))
        with pytest.raises(Unauthorized):
            await Mq9Client.connect(url.replace("secret@", "wrong@"))
        plain = server.url.replace("tls://", "nats://secret@")
        with pytest.raises((Unauthorized, Unreachable)):
            await Mq9Client.connect(plain, reconnect_attempts=1)
        async with httpx.AsyncClient() as http:
            metrics = await http.get(server.metrics_url, headers={"Host": "server"})
        assert "mq9_mailboxes" in metrics.text


def test_the_secrets_and_configurations_that_are_mounted_are_there():
    mounted = set(SERVER["secrets"])
    assert mounted == COMPOSE["secrets"].keys()
    named = {value for value in SERVER["environment"].values() if value.startswith("/run/secrets/")}
    assert {Path(one).name for one in named} == mounted
    assert {one["source"] for one in PROMETHEUS["configs"]} == COMPOSE["configs"].keys()
    assert (ROOT / COMPOSE["configs"]["rules"]["file"]).exists()


def test_prometheus_loads_the_rules_and_asks_the_server_by_a_name_that_it_has():
    config = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])
    [rules] = config["rule_files"]
    assert rules in {one["target"] for one in PROMETHEUS["configs"]}
    [target] = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.partition(":")[0] == SERVER["environment"]["MQ9_ADMIN_ALLOW_HOST"]


def test_only_the_encrypted_port_is_open_to_others_and_each_program_is_limited():
    assert SERVER["ports"] == ["4222:4222"]
    assert all(port.startswith("127.0.0.1:") for port in PROMETHEUS["ports"])
    for one in (SERVER, PROMETHEUS):
        assert re.fullmatch(r"\d+[mg]", one["mem_limit"])
        assert one["cap_drop"] == ["ALL"]
    assert re.search(r":v?\d", PROMETHEUS["image"])
