"""What a server takes from the network, all of it bounded."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEADER_BYTES = 64 * 1024  # of one request; taken apart, headers fill many times as much


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Bounds of one server; beyond them a client is refused, slowed down or cut off.

    Attributes:
        max_connections: Clients at once; further ones are told so and cut off.
        max_pending: Bytes that one client may leave unread before it is cut off.
        max_agent_pending: Bytes that the clients of one agent may leave unread together; beyond
            them the one that leaves most unread is cut off. What they share counts once.
        max_total_pending: The same for all clients.
        stalled_s: Seconds in which a client must read something of what it has been sent; it is
            cut off after at most twice as many.
        max_subscriptions: Subscriptions of one client; further ones are refused.
        max_total_subscriptions: The same for all clients.
        max_wildcards: How many of a client's subscriptions may have wildcards. What a message to
            others costs grows with these, and with no other subscriptions that it does not reach.
        max_tokens: Tokens in the subject of a subscription; it is refused beyond them.
        max_subject: Bytes in the subject of a subscription.
        max_busy: Requests of one client in work; further ones are read when these are done.
        max_busy_bytes: Bytes that these carry, or may bring back; further ones are read later.
        max_waiting: FETCHes of one client that wait for mail, and its subscriptions that are sent
            mail; further ones of either are refused.
        connect_s: Seconds in which a client must say who it is, where it must.
        ping_s: Seconds between two PINGs; a client that misses two is cut off.
    """

    max_connections: int = 10_000
    max_pending: int = 16 * 1024 * 1024
    max_agent_pending: int = 64 * 1024 * 1024
    max_total_pending: int = 256 * 1024 * 1024
    stalled_s: float = 10.0
    max_subscriptions: int = 10_000
    max_total_subscriptions: int = 100_000
    max_wildcards: int = 1_000
    max_tokens: int = 32
    max_subject: int = 1_024
    max_busy: int = 64
    max_busy_bytes: int = 1024 * 1024
    max_waiting: int = 1_000
    connect_s: float = 5.0
    ping_s: float = 30.0
