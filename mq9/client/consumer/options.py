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
        group_name: Consumer group. Default: a new group of this consumer, which starts at
            ``deliver``.
        deliver: Start of a new group. Default: ``earliest``, everything stored.
        num_msgs: Most messages of one fetch, 1 to 1 000. Default: 10.
        max_wait_ms: Milliseconds that one fetch waits for a message, 0 to 86 400 000. Default:
            30 000, and a day under a clock that tests move.
        auto_ack: Acknowledge a message when its handler returns. Default: true. With false, call
            ``await message.ack()`` at most ``lease_ms`` after the handler has returned.
        error_handler: Function that gets the message and the error. Default: the error is logged.
        concurrency: Messages that are handled at the same time, 1 to 1 000. Default: 1.
        lease_ms: Milliseconds after which another consumer gets the message if this process dies,
            1 000 to 86 400 000. The consumer renews the lease three times in that while the handler
            runs. Default: 15 000, and 60 000 without ``auto_ack``, because then nothing renews it
            after the handler.
        max_deliveries: Deliveries after which a failing message moves to ``dead_letter``. Default:
            20, about one hour. Deliveries during which the worker died do not count.
        max_deaths: Workers that may die while they handle the message alone, before it moves to
            ``dead_letter``, or is acknowledged and reported without one. Default: 3. After its
            first death, which does not count, a message is handled alone.
        dead_letter: Mailbox for messages that cannot be handled. Default: none.
        retry_delay: Seconds before the first redelivery of a failed message, 0 to 86 400. Default:
            1. The delay doubles with each delivery.
        max_retry_delay: Longest such delay in seconds, 0 to 86 400. Default: 300.
        handler_timeout: Seconds that a handler may take for one message. Default: no limit.
        promise_within: Seconds within which an answer is promised to a message with ``answer_by``.
            0 promises nothing. Default: the message's own ``answer_by``.
        stop_timeout: Seconds that handlers have to finish at a stop. Default: 30.
        agent: Agent of the consumer. Fetches count as its activity, and replies are sent under its
            name. Default: none.
        consumer: Name among the consumers of the group, after ``agent`` and a slash if there is
            one. No two running consumers may share it. Default: a random name.
        error_answers: Send an error answer when a message is given up whose sender waits (see
            docs/how-to/when-things-fail.md). Default: true for a group with the mailbox's name, for
            a group whose handler has answered a message, and for the only group of a mailbox.
        before_dead_letter: Function that gets the message, and the error if one was raised, before
            the message moves to ``dead_letter``. If it raises, the message is delivered again
            later. Default: none.
        on_event: Plain function that gets each event, on the event loop. It must not block.
            Default: none.
    """

    error_handler: Annotated[ErrorHandler | None, CALLABLE]
    before_dead_letter: Annotated[GivingUp | None, CALLABLE]


def lease_ms(options: ConsumerOptions) -> int:
    """Return the milliseconds of each lease: ``lease_ms``, or its default."""
    given = options["lease_ms"]
    if given is not None:
        return given
    return RENEWED_LEASE_MS if options["auto_ack"] else MANUAL_LEASE_MS
