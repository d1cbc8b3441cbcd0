"""Metrics of a gateway, and its readiness while the log does not answer."""

import asyncio
import os
import re
import signal
from pathlib import Path

import httpx
import pytest
from nats_server import NatsServer
from prometheus_client.parser import text_string_to_metric_families
from serving import Serving
from waiting import until

from mq9.cluster.gauges import gauges
from mq9.server.metrics import Metrics, StorageSnapshot

pytestmark = pytest.mark.programs

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"
ROW = re.compile(r"^\| `(mq9_(?:log|snapshot|nats|gateway)\w+)` \| (\w+) \|", re.MULTILINE)


def exposed(metrics):
    """The metrics of a gateway alone: their types, and their values."""
    families = text_string_to_metric_families(metrics.render(StorageSnapshot(is_up=True)).decode())
    found = {one.name: one for one in families if ROW.match(f"| `{one.name}_` | x |")}
    kinds = {name: one.type for name, one in found.items()}
    return kinds, {one.name: one.value for kind in found.values() for one in kind.samples}


async def test_the_documented_table_names_exactly_the_metrics_of_a_gateway(members):
    member = await members.start("one")
    await members.inbox()
    metrics = Metrics()
    metrics.watch(gauges(member))
    metrics.watch_appends(member.name, "mail.db")
    await until(lambda: member.backend.room.log)
    kinds, values = exposed(metrics)
    assert kinds == dict(ROW.findall(PAGE.read_text("utf-8")))
    assert values["mq9_log_applied"] == values["mq9_log_last"] > 0
    assert values["mq9_nats_connected"] == values["mq9_gateway_serving"] == 1
    assert (values["mq9_log_verified"], values["mq9_log_digest"]) == (0, 0)

    await member.take_snapshot()
    _, verified = await members.call("verify")
    _, values = exposed(metrics)
    [gateway] = verified["gateways"]
    assert values["mq9_log_verified"] == gateway["sequence"]
    assert values["mq9_log_digest"] == int(gateway["digest"][:8], 16)
    assert values["mq9_snapshot_record"] > 0
    assert values["mq9_snapshot_bytes"] > 0
    assert values["mq9_snapshot_failures"] == 0


async def test_a_gateway_whose_log_does_not_answer_is_not_ready_and_its_storage_not_up(tmp_path):
    with NatsServer(tmp_path / "nats", "--jetstream", f"--store_dir={tmp_path}/store") as server:
        options = ("--cluster", server.url, "--data", str(tmp_path / "mail.db"))
        async with Serving(tmp_path, *options, admin=True) as gateway, httpx.AsyncClient() as web:
            base = gateway.metrics_url.removesuffix("/metrics")

            async def ready():
                return (await web.get(f"{base}/readyz")).json()

            async def storage_is_up():
                lines = (await web.get(f"{base}/metrics")).text.splitlines()
                return "mq9_storage_up 1.0" in lines

            assert await ready() == {"ready": True}
            assert await storage_is_up()
            os.kill(server.pid, signal.SIGSTOP)
            try:

                async def says_why():
                    return (await ready()).get("reason") in {"log", "storage"}

                async def says_log():
                    return (await ready()).get("reason") == "log"

                await until(says_why)
                await until(says_log)
                for _ in range(10):
                    assert not await storage_is_up()
                    await asyncio.sleep(0.1)
            finally:
                os.kill(server.pid, signal.SIGCONT)

            async def is_ready_again():
                return (await ready())["ready"] and await storage_is_up()

            await until(is_ready_again)
