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

# With 20 deliveries, the first attempt of a failing handler is 58.5 minutes before the last.
DEFAULT_MAX_DELIVERIES = 20
DEFAULT_RETRY_DELAY_S = 1.0
DEFAULT_MAX_RETRY_DELAY_S = 300.0
DEFAULT_MAX_DEATHS = 3
RENEWED_LEASE_MS = 15_000  # of leases that a live process renews
MANUAL_LEASE_MS = 60_000

Handler: TypeAlias = Callable[[Message], Awaitable[object] | object]
ErrorHandler: TypeAlias = Callable[[Message, Exception], Awaitable[object] | object]

GivingUp: TypeAlias = Callable[[Message, Exception | None], Awaitable[object] | object]


def is_callable(name: str, value: Any) -> Any:
    """Check for a callable value."""
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
    """Options for handling messages, shared by consumers and workers."""

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
    """The options with the same types in both clients."""

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
        group_name: Consumer group. Default: a new group of this consumer, which starts at
            ``deliver``.
        deliver: Start of a new group. Default: ``earliest``, all stored messages.
        num_msgs: Maximum number of messages of one fetch, 1 to 1 000. Default: 10.
        max_wait_ms: Milliseconds that one fetch waits for a message, 0 to 86 400 000. Default:
            30 000, and a day with a clock that tests move.
        auto_ack: Whether to ack a message when its handler returns. Default: True. If False, call
            ``await message.ack()`` at most ``lease_ms`` after the handler has returned.
        error_handler: Function that takes the message and the error. Default: log the error.
        concurrency: Maximum number of messages to handle at the same time, 1 to 1 000. Default: 1.
        lease_ms: Milliseconds after which another consumer gets the message if this process dies,
            1 000 to 86 400 000. While the handler runs, the consumer renews the lease after each
            third of that time. Default: 15 000. Without ``auto_ack`` it is 60 000, because the
            consumer does not renew it after the handler.
        max_deliveries: Number of deliveries after which a failing message moves to ``dead_letter``.
            Default: 20, about one hour. Deliveries during which the worker died do not count.
        max_deaths: Number of workers that may die while they handle the message alone. After that
            it moves to ``dead_letter``. Without one, the consumer acks and reports it. Default: 3.
            The first death does not count. After it, the consumer handles the message alone.
        dead_letter: Mailbox for messages that handlers cannot handle. Default: none.
        retry_delay: Seconds before the first redelivery of a failed message, 0 to 86 400. Default:
            1. The delay doubles with each delivery.
        max_retry_delay: Maximum of that delay in seconds, 0 to 86 400. Default: 300.
        handler_timeout: Seconds that a handler may take for one message. Default: no limit.
        promise_within: Seconds within which the consumer promises an answer to a message with
            ``answer_by``. 0 means no promise. Default: the message's own ``answer_by``.
        stop_timeout: Seconds that handlers have to finish at a stop. Default: 30.
        agent: Agent of the consumer. Fetches count as its activity, and replies carry its name.
            Default: none.
        consumer: Name among the consumers of the group. With ``agent``, the agent's name and a
            slash come before it. Running consumers need different names. Default: a random name.
        error_answers: Whether to send an error answer when the consumer gives a message up and its
            sender waits (see docs/how-to/when-things-fail.md). Default: True for a group with the
            mailbox's name, for a group whose handler has answered a message, and for the only group
            of a mailbox.
        before_dead_letter: Function that takes the message and the error, or None without an error,
            before the message moves to ``dead_letter``. If it raises, the group delivers the
            message again later. Default: none.
        on_event: Plain function that takes each event, on the event loop. It must not block.
            Default: none.
    """

    error_handler: Annotated[ErrorHandler | None, CALLABLE]
    before_dead_letter: Annotated[GivingUp | None, CALLABLE]


def lease_ms(options: ConsumerOptions) -> int:
    """Return the duration of each lease in milliseconds: ``lease_ms``, or its default."""
    given = options["lease_ms"]
    if given is not None:
        return given
    return RENEWED_LEASE_MS if options["auto_ack"] else MANUAL_LEASE_MS
