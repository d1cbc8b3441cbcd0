"""Metrics of the state of a broker: its totals, and the mailboxes that an operator names.

Gateways of one cluster, and servers that share a file, report the same state. So each of these has
the label ``state``, the id of what it describes. ``sum(max by (state) (mq9_messages))`` counts no
state twice.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mq9.models import PRIORITIES, Totals

STATE = "state"


def state_of(*parts: str) -> str:
    """Return the id of a state that these parts identify."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def state_of_file(path: Path) -> str:
    """Return the id of the state in a file, which all programs on this machine derive equally."""
    return state_of(socket.gethostname(), str(path.absolute()))


def families(totals: Totals, state: str) -> Iterator[Metric]:
    """Yield the metrics of a state; without the label if its id is empty."""
    names, values = ([STATE], [state]) if state else ([], [])
    for name, text, value in (
        ("mailboxes", "Mailboxes.", totals.mailboxes),
        ("agents", "Registered agents.", totals.agents),
        ("groups", "Consumer groups.", totals.groups),
        ("messages", "Messages stored, without delayed ones.", totals.messages),
        ("delayed_messages", "Messages that wait for their due time.", totals.delayed),
        ("stored_bytes", "Size of all messages, delayed ones included.", totals.bytes),
        ("leases", "Messages that a consumer holds.", totals.leases),
    ):
        gauge = GaugeMetricFamily(f"mq9_{name}", text, labels=names)
        gauge.add_metric(values, value)
        yield gauge
    backlog = GaugeMetricFamily(
        "mq9_backlog",
        "Messages that could be delivered to groups now.",
        labels=["priority", *names],
    )
    for priority in PRIORITIES:
        backlog.add_metric([priority.value, *values], getattr(totals.backlog, priority.value))
    yield backlog
    removed = CounterMetricFamily(
        "mq9_messages_removed", "Messages that are no longer stored.", labels=["reason", *names]
    )
    for reason, count in (*asdict(totals.removed).items(), ("dropped", totals.dropped)):
        removed.add_metric([reason, *values], count)
    yield removed
    yield from _of_mailboxes(totals, names, values)


def _of_mailboxes(totals: Totals, names: list[str], values: list[str]) -> Iterator[Metric]:
    if totals.named is None:
        return
    for name, text in (
        ("messages", "Messages stored in a mailbox, without delayed ones."),
        ("delayed_messages", "Messages of a mailbox that wait for their due time."),
        ("stored_bytes", "Size of all messages of a mailbox, delayed ones included."),
        ("leases", "Messages of a mailbox that a consumer holds."),
        ("backlog", "Messages of a mailbox that could be delivered to its groups now."),
    ):
        gauge = GaugeMetricFamily(f"mq9_mailbox_{name}", text, labels=["mailbox", *names])
        for one in totals.named.mailboxes:
            gauge.add_metric([one.mail_address, *values], getattr(one, name))
        yield gauge
    left_out = GaugeMetricFamily(
        "mq9_mailbox_metrics_left_out",
        "Named mailboxes beyond the limit, which have no metrics of their own.",
        labels=names,
    )
    left_out.add_metric(values, totals.named.left_out)
    yield left_out
