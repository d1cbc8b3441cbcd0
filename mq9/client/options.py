"""The options of a client, as a type for whoever passes them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from mq9.clock import Clock
from mq9.discovery.embeddings import Embeddings


class ClientOptions(TypedDict, total=False):
    """Arguments of ``Mq9Client`` beside its server, agent and transport; see there.

    Attributes:
        request_timeout: Seconds to wait for a reply.
        reconnect_attempts: How often a request is repeated at most.
        reconnect_delay: Seconds before each repetition but the first.
        clock: The clock to go by.
        randomness: Returns that many unpredictable bytes.
        embeddings: What finds agents by meaning.
        agents: All agents that are configured; a mapping says where each may send.
    """

    request_timeout: float
    reconnect_attempts: int
    reconnect_delay: float
    clock: Clock | None
    randomness: Callable[[int], bytes]
    embeddings: Embeddings | None
    agents: Sequence[str] | Mapping[str, Sequence[str] | None] | None
