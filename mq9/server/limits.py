"""Limits of a server for its network, and of a gateway for its log."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEADER_BYTES = 64 * 1024  # of one request; taken apart, headers fill many times as much


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotLimits:
    """Sizes of a cluster's log at which a gateway stores a snapshot, which lets it be trimmed."""

    snapshot_records: int = 100_000  # records since the newest snapshot
    # Bytes of the log since then, if the newest snapshot has fewer.
    snapshot_bytes: int = 256 * 1024 * 1024
    snapshot_age: float = 86_400.0  # seconds since the oldest record of the log


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Bounds of one server; beyond them a client is refused, slowed down or cut off."""

    max_connections: int = 10_000
    max_pending: int = 16 * 1024 * 1024  # bytes that one client may leave unread
    # The same for the clients of one agent, and for all. What they share counts once; the one that
    # leaves most unread is cut off.
    max_agent_pending: int = 64 * 1024 * 1024
    max_total_pending: int = 256 * 1024 * 1024
    # Seconds in which a client must read something; it is cut off after at most twice as many.
    stalled_s: float = 10.0
    max_subscriptions: int = 10_000  # of one client
    max_total_subscriptions: int = 100_000
    # Of one client's subscriptions those with wildcards: what a message to others costs grows with
    # these, and with no other subscriptions that it does not reach.
    max_wildcards: int = 1_000
    max_tokens: int = 32  # in the subject of a subscription
    max_subject: int = 1_024  # bytes in it
    max_busy: int = 64  # requests of one client in work; further ones are read when these are done
    max_busy_bytes: int = 1024 * 1024  # that these carry, or may bring back
    max_waiting: int = 1_000  # FETCHes of one client, and subscriptions that wait for mail
    connect_s: float = 5.0  # seconds until a client must have authenticated
    ping_s: float = 30.0  # between two PINGs; a client that misses two is cut off
