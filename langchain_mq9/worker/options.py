"""The options of a worker that it shares with a consumer, and those of its client."""

from __future__ import annotations

from typing import Annotated

from mq9 import ClientOptions
from mq9.client.consumer import HandlingOptions, Option
from mq9.protocol import checks, requests


class WorkerOptions(HandlingOptions, ClientOptions, total=False):
    """How a ``MailboxWorker`` handles messages; and with ``server``, the options of its client.

    Attributes:
        concurrency: How many messages are handled at the same time, 1 to 1 000; as many answers to
            questions besides. 8 by default.
        handler_timeout: Seconds that one run may take; None for any. 600 by default.
        stop_timeout: Seconds that runs are given to finish when the worker is stopped; then their
            messages are given back, and go on elsewhere from their last checkpoints. 30 by default.
        dead_letter: The mailbox for messages that cannot be handled; by default the agent's own
            with ``.dead`` behind it. It is made if it is missing.
        max_deliveries: After how many deliveries a message that fails is moved there. By default
            20, which are tried within about an hour.
        max_deaths: How many workers may die while they handle a message alone, before it is moved
            there; 3 by default. See ``ConsumerOptions``.
        retry_delay: Seconds before a failed message is delivered again for the first time; 1 by
            default.
        max_retry_delay: The longest that delay grows to, in seconds; up to a day. 300 by default.
        lease_ms: Milliseconds after which another worker goes on if this process dies, 1 000 to
            86 400 000. The leases are renewed while the graph runs. 15 000 by default.
        on_event: Is told what happens to messages; see ``ConsumerOptions``.
    """

    # With defaults of their own.
    concurrency: Annotated[int, Option(8, checks.whole(1, 1_000))]
    handler_timeout: Annotated[
        float | None, Option(600.0, checks.optional(checks.seconds(above_zero=True)))
    ]
    lease_ms: Annotated[  # type: ignore[misc]  # None is no lease of a turn
        int, Option(15_000, checks.whole(1_000, requests.MAX_LEASE_MS))
    ]
