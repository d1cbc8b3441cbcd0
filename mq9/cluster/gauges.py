"""Metrics of a gateway, for the registry of its server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mq9.server.metrics import Watched

if TYPE_CHECKING:
    from mq9.cluster.member import Member

_NO_DIGEST = (0, "0")


def gauges(member: Member) -> list[Watched]:
    """Return the gauges of a gateway: names, texts, and functions that return the values."""
    backend, gateway, snapshots = member.backend, member.gateway, member.snapshots

    def of_log(field: str) -> Callable[[], float]:
        return lambda: getattr(backend.room.log, field, None) or 0

    return [
        Watched(
            "mq9_log_applied",
            "The last record of the log that was applied.",
            lambda: backend.sequence,
        ),
        Watched("mq9_log_last", "The last record of the log.", lambda: backend.known),
        Watched(
            "mq9_log_silent_seconds",
            "Time since a majority of the NATS servers reported the end of the log.",
            lambda: backend.silent_s,
        ),
        Watched(
            "mq9_log_left_out",
            "Entries of the log that are not records of mq9, since the start.",
            lambda: backend.left_out,
        ),
        Watched(
            "mq9_log_late",
            "Records of this gateway that came to the log after their deadline, since the start.",
            lambda: backend.late,
        ),
        Watched(
            "mq9_log_bytes", "Size of the log on each server.", of_log("bytes"), is_shared=True
        ),
        Watched(
            "mq9_log_max_bytes",
            "The limit of that size, max_bytes of the stream; 0 for none.",
            of_log("max_bytes"),
            is_shared=True,
        ),
        Watched(
            "mq9_log_short",
            "Whether new mail is refused because the log is nearly full.",
            lambda: backend.room.is_short,
        ),
        Watched("mq9_log_records", "Records of the log.", of_log("records"), is_shared=True),
        Watched(
            "mq9_log_first",
            "The first record that the log still has.",
            of_log("first"),
            is_shared=True,
        ),
        Watched(
            "mq9_log_verified",
            "The record of the log at which the state was digested last; 0 for none.",
            lambda: (member.verified or _NO_DIGEST)[0],
            is_shared=True,
        ),
        Watched(
            "mq9_log_digest",
            "The first 32 bits of that digest, as a number; 0 for none.",
            lambda: int((member.verified or _NO_DIGEST)[1][:8], 16),
            is_shared=True,
        ),
        Watched(
            "mq9_snapshot_record",
            "The last record in the newest snapshot; 0 for none.",
            lambda: snapshots.newest.sequence,
            is_shared=True,
        ),
        Watched(
            "mq9_snapshot_bytes",
            "Size of the newest snapshot; 0 for none.",
            lambda: snapshots.newest.bytes,
            is_shared=True,
        ),
        Watched(
            "mq9_snapshot_failures",
            "Snapshots of this gateway that failed, since the start.",
            lambda: member.failed_snapshots,
        ),
        Watched(
            "mq9_nats_connected",
            "Whether the gateway is connected to a NATS server.",
            lambda: member.client.is_connected,
        ),
        Watched(
            "mq9_nats_reconnects",
            "Reconnections of the gateway to NATS servers, since the start.",
            lambda: member.client.stats["reconnects"],
        ),
        Watched(
            "mq9_gateway_serving",
            "Whether the gateway is in the queue group.",
            lambda: gateway.is_serving,
        ),
        Watched(
            "mq9_gateway_refused_replies",
            "Requests that were not carried out, as their reply subjects are no inboxes.",
            lambda: gateway.refused,
        ),
    ]
