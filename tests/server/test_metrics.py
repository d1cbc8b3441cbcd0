"""What a broker counts is what happened, and the labels stay few whatever clients say."""

import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.embedded import EmbeddedBroker
from mq9.dialects import OLDER
from mq9.protocol.reserved import REDRIVE_GROUP
from mq9.protocol.verbs import VERBS
from mq9.server import metrics as module
from mq9.server.metrics import Metrics, StorageSnapshot
from mq9.testing import ManualClock

DOWN = StorageSnapshot(is_up=False)

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"
ROW = re.compile(r"^\| `((?:mq9|process)_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


FETCH = {"group_name": "g", "deliver": "earliest", "config": {"max_wait_ms": 0}}

MAILBOX_GAUGES = ("messages", "delayed_messages", "stored_bytes", "leases", "backlog")


class Watched:
    """A broker in memory with its metrics."""

    def __init__(self):
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.broker = EmbeddedBroker.in_memory(self.clock, observer=self.metrics)

    async def ask(self, verb, body=b"", *headers, consumer="someone"):
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        request = PublishedRequest(f"$mq9.AI.{verb}", payload, headers, BrokerSession(consumer))
        return orjson.loads(await self.broker.handle(request))

    async def make(self, *names):
        for name in names:
            await self.ask("MAILBOX.CREATE", {"name": name})

    async def values(self):
        return values(
            self.metrics.render(StorageSnapshot(is_up=True, totals=await self.broker.totals()))
        )


def families(exposition):
    return {one.name: one for one in text_string_to_metric_families(exposition.decode())}


def values(exposition):
    """Every sample, by its name with its labels' values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(exposition).values()
        for sample in family.samples
    }


@pytest.fixture
async def watched():
    one = Watched()
    yield one
    await one.broker.close()


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0.0002, "0.0002"), (0.00021, "0.0005"), (10.1, "+Inf")]
)
def test_a_latency_falls_into_the_first_bucket_that_holds_it(seconds, bound):
    metrics = Metrics()
    metrics.answered("MSG.ACK", "ok", seconds)
    name = "mq9_operation_duration_seconds"
    seen = values(metrics.render(DOWN))
    bounds = [*map(str, module.LATENCY_BUCKETS), "+Inf"]
    counts = [seen[f"{name}_bucket", one, "MSG.ACK"] for one in bounds]
    first = bounds.index(bound)
    assert counts == [0] * first + [1] * (len(bounds) - first)
    assert seen[f"{name}_sum", "MSG.ACK"] == seconds


async def test_redeliveries_and_dead_letters_are_counted(watched):
    await watched.make("inbox", "dead")
    for _ in range(2):
        await watched.ask("MSG.SEND.inbox", b"hello")
    await watched.ask("MSG.FETCH.inbox", FETCH)
    seen = await watched.values()
    assert seen["mq9_redeliveries_total",] == seen["mq9_dead_letters_total",] == 0

    await watched.clock.advance(61)
    await watched.ask("MSG.FETCH.inbox", FETCH, consumer="another")
    move = {"group_name": "g", "msg_id": 0, "consumer": "another", "to": "dead"}
    for _ in range(2):
        await watched.ask("MSG.MOVE.inbox", move, consumer="another")
    seen = await watched.values()
    assert seen["mq9_redeliveries_total",] == 2
    assert seen["mq9_dead_letters_total",] == 1

    for box, msg_id, to in (("dead", 0, "inbox"), ("inbox", 2, "dead")):  # it dies again
        await watched.ask(f"MSG.FETCH.{box}", FETCH)
        move = {"group_name": "g", "msg_id": msg_id, "to": to}
        assert "msg_id" in await watched.ask(f"MSG.MOVE.{box}", move)
    assert (await watched.values())["mq9_dead_letters_total",] == 2


async def test_what_waits_for_a_redrive_is_no_backlog(watched):
    await watched.ask("MAILBOX.CREATE", {"name": "dead"})
    for _ in range(3):
        await watched.ask("MSG.SEND.dead", b"hello")
    for group in (REDRIVE_GROUP, "g"):
        config = {"max_wait_ms": 0, "num_msgs": 1}
        fetch = {"group_name": group, "deliver": "earliest", "config": config}
        await watched.ask("MSG.FETCH.dead", fetch)
    assert (await watched.values())["mq9_backlog", "normal"] == 2
    await watched.clock.advance(61)
    assert (await watched.values())["mq9_backlog", "normal"] == 3


async def test_removed_messages_are_counted_by_reason_also_when_their_mailbox_is_gone(watched):
    await watched.ask("MAILBOX.CREATE", {"name": "inbox"})
    await watched.ask("MSG.SEND.inbox", b"1", ("mq9-ttl", "5"))
    for _ in range(3):
        await watched.ask("MSG.SEND.inbox", b"2", ("mq9-key", "k"))
    await watched.clock.advance(5)
    await watched.ask("MSG.SEND.inbox", b"3", ("mq9-delay", "5"))
    counted = {"expired": 1, "replaced": 2, "deleted": 0, "evicted": 0, "dropped": 0}
    seen = await watched.values()
    assert {one: seen["mq9_messages_removed_total", one] for one in counted} == counted

    await watched.ask("MAILBOX.DROP.inbox")
    counted |= {"dropped": 2}
    seen = await watched.values()
    assert {one: seen["mq9_messages_removed_total", one] for one in counted} == counted


async def test_gauges_say_what_the_broker_holds(watched):
    await watched.ask("MAILBOX.CREATE", {"name": "inbox"})
    await watched.ask("MAILBOX.CREATE", {"name": "other", "ttl": 100})
    await watched.ask("AGENT.REGISTER", {"name": "Ada", "mailbox": "inbox"})
    await watched.ask("MSG.SEND.inbox", b"12345", ("mq9-priority", "critical"))
    await watched.ask("MSG.FETCH.inbox", FETCH)
    await watched.ask("MSG.SEND.inbox", b"1234567", ("mq9-priority", "urgent"))
    await watched.ask("MSG.SEND.inbox", b"123")
    await watched.ask("MSG.SEND.inbox", b"123")
    await watched.ask("MSG.SEND.inbox", b"12", ("mq9-delay", "50"))
    seen = await watched.values()
    assert seen["mq9_mailboxes",] == 2
    assert seen["mq9_agents",] == 1
    assert seen["mq9_groups",] == 1
    assert seen["mq9_messages",] == 4
    assert seen["mq9_delayed_messages",] == 1
    assert seen["mq9_stored_bytes",] == 5 + 7 + 3 + 3 + 2
    assert seen["mq9_leases",] == 1
    assert seen["mq9_backlog", "critical"] == 0
    assert seen["mq9_backlog", "urgent"] == 1
    assert seen["mq9_backlog", "normal"] == 2
    assert seen["mq9_storage_up",] == 1


async def test_named_mailboxes_have_gauges_of_their_own_up_to_a_limit(watched):
    await watched.make("inbox", "team.a", "team.b", "team.c", "other")
    await watched.ask("MSG.SEND.team.a", b"12345")
    await watched.ask("MSG.FETCH.team.a", FETCH)
    await watched.ask("MSG.FETCH.team.a", {**FETCH, "group_name": REDRIVE_GROUP})
    for body in (b"1", b"123"):
        await watched.ask("MSG.SEND.team.a", body)
    await watched.ask("MSG.SEND.team.a", b"12", ("mq9-delay", "90"))
    await watched.ask("MSG.SEND.team.b", b"1")

    async def of(patterns, most):
        totals = await watched.broker.totals(patterns, most)
        seen = values(watched.metrics.render(StorageSnapshot(is_up=True, totals=totals)))
        return {key: value for key, value in seen.items() if key[0].startswith("mq9_mailbox_")}

    named = await of(["team.?", "inbox"], 3)
    assert named["mq9_mailbox_metrics_left_out",] == 1
    assert {key[1] for key in named if len(key) > 1} == {"inbox", "team.a", "team.b"}
    assert named["mq9_mailbox_messages", "team.a"] == 3
    assert named["mq9_mailbox_delayed_messages", "team.a"] == 1
    assert named["mq9_mailbox_stored_bytes", "team.a"] == 5 + 1 + 3 + 2
    assert named["mq9_mailbox_leases", "team.a"] == 2
    assert named["mq9_mailbox_backlog", "team.a"] == 2
    assert named["mq9_mailbox_backlog", "team.b"] == named["mq9_mailbox_backlog", "inbox"] == 0
    assert set(await of(["team.[!ab]"], 3)) == {
        *((f"mq9_mailbox_{name}", "team.c") for name in MAILBOX_GAUGES),
        ("mq9_mailbox_metrics_left_out",),
    }
    assert await of([], 3) == {}

    await watched.clock.advance(61)  # the leases end
    named = await of(["team.a"], 1)
    assert named["mq9_mailbox_leases", "team.a"] == 0
    assert named["mq9_mailbox_backlog", "team.a"] == 3
    assert named["mq9_mailbox_metrics_left_out",] == 0


async def test_without_totals_the_counters_stand_and_the_gauges_are_not_made_up(watched):
    await watched.ask("MAILBOX.CREATE", {"name": "inbox"})
    with_totals = families(
        watched.metrics.render(StorageSnapshot(is_up=True, totals=await watched.broker.totals()))
    )
    without = families(watched.metrics.render(DOWN))
    assert without["mq9_storage_up"].samples[0].value == 0
    assert set(with_totals) - set(without) == {
        "mq9_mailboxes",
        "mq9_agents",
        "mq9_groups",
        "mq9_messages",
        "mq9_delayed_messages",
        "mq9_stored_bytes",
        "mq9_leases",
        "mq9_backlog",
        "mq9_messages_removed",
        "mq9_totals_age_seconds",
    }
    assert values(watched.metrics.render(DOWN))["mq9_operations_total", "ok", "MAILBOX.CREATE"] == 1


def test_no_label_takes_a_value_that_nobody_knew_before():
    metrics = Metrics()
    for number in range(1_000):
        metrics.answered(f"VERB.{number}", f"code_{number}", 0.1)
        metrics.answered("MSG.SEND", f'"}} 1\nmq9_forged{{x="{number}', 0.1)
        metrics.connection_closed(f"reason {number}")
    exposition = metrics.render(DOWN)
    seen = values(exposition)
    assert b"forged" not in exposition
    assert seen["mq9_operations_total", "unknown", "unknown"] == 1_000
    assert seen["mq9_operations_total", "unknown", "MSG.SEND"] == 1_000
    assert seen["mq9_connections_closed_total", "unknown"] == 1_000
    verbs, codes = len(VERBS.keys() | OLDER) + 1, 2
    buckets = len(module.LATENCY_BUCKETS) + 3
    ours = [name for name, *_ in seen if name.startswith("mq9_")]
    assert len(ours) < verbs * (codes + buckets) + len(module.CLOSE_REASONS) + 10


async def test_every_series_of_a_broker_is_there_before_its_first_event_and_its_own(watched):
    await watched.ask("MAILBOX.CREATE", {"name": "inbox"})
    assert (await watched.values())["mq9_operations_total", "ok", "MAILBOX.CREATE"] == 1
    seen = values(Metrics().render(DOWN))  # of another broker in this process
    for verb in VERBS:
        assert seen["mq9_operations_total", "ok", verb] == 0
        assert seen["mq9_operation_duration_seconds_count", verb] == 0
    for reason in module.CLOSE_REASONS:
        assert seen["mq9_connections_closed_total", reason] == 0
    assert not any(name.endswith("_created") for name, *_ in seen)
    assert not any(one.name.startswith("mq9") for one in REGISTRY.collect())


@pytest.mark.programs
def test_the_broker_and_its_log_do_without_the_packages_of_this_port():
    script = (
        "import sys\n"
        "for name in ('prometheus_client', 'starlette', 'uvicorn'): sys.modules[name] = None\n"
        "import mq9, mq9.testing, mq9.broker.embedded, mq9.server.server, mq9.logs\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


async def test_the_documented_table_names_exactly_what_is_exposed(watched):
    exposed = {}
    watched.metrics.state = "x"
    await watched.make("inbox")
    totals = await watched.broker.totals(["*"], 1)
    watched.metrics.watch_clock(lambda: watched.broker.clock_offset_ms / 1000)
    snapshot = StorageSnapshot(is_up=True, totals=totals)
    for family in families(watched.metrics.render(snapshot)).values():
        labels = {label for one in family.samples for label in one.labels} - {"le"}
        suffix = "_total" if family.type == "counter" else ""
        exposed[family.name + suffix] = (family.type, tuple(sorted(labels)))
    documented = {
        name: (kind, tuple(sorted(re.findall(r"`(\w+)`", labels))))
        for name, kind, labels in ROW.findall(PAGE.read_text("utf-8"))
    }
    ours = {name for name in exposed if name.startswith("mq9_")}
    # The others are in tests/cluster/test_gauges.py.
    assert ours == {one for one in documented if re.match("mq9_(?!log|snapshot|nats|gateway)", one)}
    assert exposed.items() <= documented.items()  # of a process, not every system tells all


def test_the_documented_reasons_are_those_that_are_counted():
    (row,) = re.findall(
        r"^\| `mq9_connections_closed_total`.*$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert set(re.findall(r"`(\w+)`", row.split("|")[4])) == set(module.CLOSE_REASONS)
