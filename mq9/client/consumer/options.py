"""The options of a consumer, each declared once: type, default, check and description."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias, TypedDict

from mq9.client.consumer.events import EventHandler
from mq9.client.consumer.outcomes import MAX_DELAY_S
from mq9.client.options import Option, unchecked
from mq9.clock import DEFAULT_POLL_MS
from mq9.errors import InvalidRequest
from mq9.models import Deliver, Message
from mq9.protocol import checks, requests

# Of a handler that always fails, the first try and the last one are 58.5 minutes apart.
DEFAULT_MAX_DELIVERIES = 20
DEFAULT_RETRY_DELAY_S = 1.0
DEFAULT_MAX_RETRY_DELAY_S = 300.0
DEFAULT_MAX_DEATHS = 3
RENEWED_LEASE_MS = 15_000  # of what is renewed while a process lives
MANUAL_LEASE_MS = 60_000

Handler: TypeAlias = Callable[[Message], Awaitable[object] | object]
ErrorHandler: TypeAlias = Callable[[Message, Exception], Awaitable[object] | object]

GivingUp: TypeAlias = Callable[[Message, Exception | None], Awaitable[object] | object]


def is_callable(name: str, value: Any) -> Any:
    """Check for something that can be called."""
    if not callable(value):
        raise InvalidRequest(f"{name}: {checks.shown(value)} cannot be called")
    return value


def _plain_function(name: str, value: Any) -> Any:
    if inspect.iscoroutinefunction(is_callable(name, value)):
        raise InvalidRequest(f"{name}: {checks.shown(value)} is a coroutine function")
    return value


_one_to_1000 = checks.whole(1, 1_000)
within_a_day = checks.seconds(MAX_DELAY_S)


class HandlingOptions(TypedDict, total=False):
    """Options for handling messages, which workers share."""

    concurrency: Annotated[int, Option(1, _one_to_1000)]
    lease_ms: Annotated[
        int | None, Option(None, checks.optional(checks.whole(1_000, requests.MAX_LEASE_MS)))
    ]
    max_deliveries: Annotated[int, Option(DEFAULT_MAX_DELIVERIES, checks.whole(1, 1_000_000))]
    max_deaths: Annotated[int, Option(DEFAULT_MAX_DEATHS, checks.whole(1, 1_000_000))]
    dead_letter: Annotated[str | None, Option(None, checks.optional(checks.mail_address))]
    retry_delay: Annotated[float, Option(DEFAULT_RETRY_DELAY_S, within_a_day)]
    max_retry_delay: Annotated[float, Option(DEFAULT_MAX_RETRY_DELAY_S, within_a_day)]
    handler_timeout: Annotated[
        float | None, Option(None, checks.optional(checks.seconds(above_zero=True)))
    ]
    promise_within: Annotated[float | None, Option(None, checks.optional(checks.seconds()))]
    stop_timeout: Annotated[float, Option(30.0, checks.seconds())]
    on_event: Annotated[EventHandler | None, Option(None, checks.optional(_plain_function))]


class CommonOptions(HandlingOptions, total=False):
    """The options whose types are the same for both clients."""

    group_name: Annotated[str | None, Option(None, checks.optional(checks.header_text))]
    deliver: Annotated[Deliver | str, Option(Deliver.EARLIEST, unchecked)]  # the fetch checks it
    num_msgs: Annotated[int, Option(10, _one_to_1000)]
    max_wait_ms: Annotated[int, Option(DEFAULT_POLL_MS, checks.whole(0, requests.MAX_WAIT_MS))]
    auto_ack: Annotated[bool, Option(True, checks.flag)]
    agent: Annotated[str | None, Option(None, checks.optional(checks.agent_name))]
    consumer: Annotated[str | None, Option(None, checks.optional(checks.header_text))]
    error_answers: Annotated[bool | None, Option(None, checks.optional(checks.flag))]


CALLABLE = Option(None, checks.optional(is_callable))


class ConsumerOptions(CommonOptions, total=False):
    """Options of a consumer.

    Attributes:
        group_name: The consumer group; without it, one of this consumer's own that starts at
            ``deliver``.
        deliver: Where a new group starts.
        num_msgs: How many to fetch at once at the most, 1 to 1 000.
        max_wait_ms: Milliseconds that one fetch waits for a message, 0 to 86 400 000. The default,
            which a machine's clock allows, stands for a day under a clock that tests move.
        auto_ack: Whether a message is acked when its handler returns; otherwise that is to be done
            (``await message.ack()``), at the latest ``lease_ms`` after the handler has returned.
        error_handler: Gets the message and what went wrong with it; without it, that is logged.
        concurrency: How many messages are handled at the same time, 1 to 1 000.
        lease_ms: Milliseconds after which another consumer gets a message if this process dies,
            1 000 to 86 400 000. The lease is renewed three times in that while the handler runs.
            15 000 by default, and 60 000 without ``auto_ack``, as nothing renews the lease once
            the handler has returned.
        max_deliveries: After how many deliveries a message that fails is moved to ``dead_letter``.
            20 by default, which are tried within about an hour. Deliveries during which the worker
            died do not count.
        max_deaths: How many workers may die while they handle a message alone, before it is moved
            to ``dead_letter``, or acked and reported where there is none; 3 by default. After the
            first death a message is handled alone; that death does not count.
        dead_letter: The mailbox for messages that cannot be handled.
        retry_delay: Seconds before a failed message is delivered again for the first time.
        max_retry_delay: The longest that delay grows to, in seconds; up to a day.
        handler_timeout: Seconds that a handler may take for one message; None for any.
        promise_within: Within how many seconds of taking it on an answer is promised to a message
            that has ``answer_by``; 0 for no promise. None promises ``answer_by`` itself.
        stop_timeout: Seconds that handlers are given to finish when the consumer is stopped.
        agent: The agent that it works for: its fetches are that agent's signs of activity, and the
            answers that handlers return are sent in its name.
        consumer: Its name among the consumers of its group, such as that of a process; random when
            not given. Behind ``agent`` and a slash, where there is one. No two that run at the same
            time may have the same.
        error_answers: Whether the sender of a message that is given up is answered with an error,
            if it waits for an answer (see docs/how-to/when-things-fail.md). By default that is so
            for a group that is named like the mailbox, for one whose handler has answered a
            message, and for the only group of a mailbox.
        before_dead_letter: Is called with a message, and the error if one was raised, before the
            message is moved to ``dead_letter``. If it raises, the message is delivered again later.
        on_event: Is told what happens to messages, on the event loop: a plain function that does
            not block.
    """

    error_handler: Annotated[ErrorHandler | None, CALLABLE]
    before_dead_letter: Annotated[GivingUp | None, CALLABLE]


def lease_ms(options: ConsumerOptions) -> int:
    """Return the milliseconds of each lease: ``lease_ms``, or its default."""
    given = options["lease_ms"]
    if given is not None:
        return given
    return RENEWED_LEASE_MS if options["auto_ack"] else MANUAL_LEASE_MS
