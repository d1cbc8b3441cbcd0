"""The background consumer: its loop, and how it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from mq9 import address as addresses
from mq9.client import tracing
from mq9.client.by_offset import MOST_FETCHED, OffsetProgress
from mq9.client.consumer.acks import Acks
from mq9.client.consumer.events import ConsumerCounters, Recorder
from mq9.client.consumer.options import ConsumerOptions, Handler, is_callable, lease_ms
from mq9.client.consumer.processing import Processor, log_unexpected
from mq9.client.options import checked_as
from mq9.clock import DEFAULT_POLL_MS, sleep
from mq9.errors import InvalidRequest, Mq9Error, NotConnected, Unreachable
from mq9.models import Deliver, FetchResult
from mq9.protocol import checks
from mq9.protocol.robustmq import goes_by_offset, keeps_start

if TYPE_CHECKING:
    from mq9.client.client import Mq9Client

T = TypeVar("T")

_logger = logging.getLogger("mq9.consumer")
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0  # between attempts to reach a silent broker
_SHORTEST_ROUND_MS = 100  # for a fetch without messages, even with a shorter max_wait_ms
_IDLE_PAUSE_S = 1.0  # for a broker that redelivers handled messages instead of waiting


class Consumer:
    """Handles the messages of one mailbox until it stops. ``Mq9Client.consume`` creates it.

    It fetches as many messages as it has free slots. It renews their leases while handlers run, and
    acks each message after its handler has returned. If a handler raises, the group delivers the
    message again after a delay. The delay doubles with each delivery. If a worker dies, its message
    is handled alone from then on.

    After ``max_deliveries`` or ``max_deaths`` the message moves to the ``dead_letter`` mailbox (see
    ``Mq9Client.move``). There, ``moved`` has the original mailbox and the reason. If that mailbox
    is missing or full, the message stays, and the consumer reports the error. It tries the move
    again every ``max_retry_delay``, without running the handler. Without ``dead_letter``, a failing
    message is retried while it is stored. A message whose workers died is acked and reported as an
    error. The consumer gives a message up only while it holds the lease. A sender that waits for an
    answer then gets an error answer.

    A plain function runs on a thread, so it may block. A coroutine function runs on the event loop.
    If the message has ``reply_to``, a returned text, bytes, dict or list is sent as the answer. The
    consumer ignores other results.

    A handler can decide about its message: it raises ``Reject`` or ``Retry``, or calls
    ``message.ack``, ``nack`` or ``move``. After such a call, its result and its exceptions do not
    change the decision. If the sender no longer waits for an answer, the consumer acks the message
    and counts it as unanswered. If it may not send to ``reply_to``, it gives the message up as
    after ``Reject``.

    A handler that takes longer than ``handler_timeout`` has failed. The consumer cancels a
    coroutine. It cannot cancel a plain function, which runs on. The message is retried as after
    any other failure. A handler that still runs keeps its slot until it ends.

    RobustMQ has no leases. There, the consumer acks a message after all earlier ones are handled.
    docs/how-to/robustmq.md describes the guarantees.

    Args:
        client: The client that fetches and acks.
        mail_address: The mailbox.
        handler: Function that takes each message.
        options: See ``ConsumerOptions``.
    """

    def __init__(
        self,
        client: Mq9Client,
        mail_address: str,
        handler: Handler,
        options: Mapping[str, Any],
    ) -> None:
        handler = is_callable("handler", handler)
        chosen = checked_as(ConsumerOptions, options, "consume")
        self._options = options = cast("ConsumerOptions", chosen)
        self._client = client
        self._address = addresses.parse(mail_address)
        if options["dead_letter"] == self._address:
            raise InvalidRequest(f"dead_letter: {self._address} is the mailbox itself")
        self._deliver = options["deliver"]
        own_name = f"consumer.{client.new_id()}"
        self._group = options["group_name"] or own_name
        self._name = _name(options["agent"], options["consumer"] or own_name)
        self._clock = client.clock  # usable after the client is closed
        self._max_wait_ms = (
            self._clock.longest_poll_ms
            if options["max_wait_ms"] == DEFAULT_POLL_MS
            else options["max_wait_ms"]
        )
        self._acks = Acks(client, self._address, self._group, self._name)
        self._processor = Processor(
            f"the consumer of {self._address}, group {self._group},",
            client,
            self._acks,
            handler,
            options,
            Recorder(self._name, options["on_event"]),
        )
        self._is_careful = False  # fetch single messages, because some may have to run alone
        self._asked = 0  # the number of messages in the latest fetch request
        self._loop_task: asyncio.Task[None] | None = None
        self._interruptible: asyncio.Task[Any] | None = None
        self._deadlines: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._ends_with: tuple[type[Mq9Error], ...] = ()
        self._error: Mq9Error | None = None  # the error that ended it

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<Consumer of {self._address}, group {self._group}, {state}>"

    @property
    def is_running(self) -> bool:
        """Whether it fetches, or still finishes fetched messages."""
        return self._loop_task is not None and not self._loop_task.done()

    @property
    def name(self) -> str:
        """Its name among the consumers of its group."""
        return self._name

    @property
    def group_name(self) -> str:
        """The consumer group of this consumer."""
        return self._group

    @property
    def counters(self) -> ConsumerCounters:
        """A snapshot of the counters."""
        return self._processor.counters

    @property
    def processed_count(self) -> int:
        """Number of messages handled without an error."""
        return self.counters.processed

    @property
    def failed_count(self) -> int:
        """Number of calls in which the handler raised, or took too long."""
        return self.counters.failed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def start(self, on_end: Callable[[Consumer], object]) -> None:
        """Create the group if it is missing, and start. ``Mq9Client.consume`` calls this.

        Args:
            on_end: Function that takes this consumer after its end.
        """
        first = await self._fetch(max_wait_ms=0)
        if keeps_start(first):
            # If the mailbox is recreated, all its messages are new.
            self._deliver = Deliver.EARLIEST
        with tracing.detached():
            self._loop_task = asyncio.create_task(self._run(first), name=f"mq9 {self._address}")
        self._loop_task.add_done_callback(log_unexpected)
        self._loop_task.add_done_callback(lambda _: on_end(self))

    def end_with(
        self, errors: tuple[type[Mq9Error], ...], on_end: Callable[[Mq9Error | None], object]
    ) -> None:
        """End on some errors of a FETCH, instead of trying again.

        Args:
            errors: The classes of these errors.
            on_end: Function that takes the error after the end. None after a stop.
        """
        self._ends_with = errors
        if self._loop_task is not None:
            self._loop_task.add_done_callback(lambda _: on_end(self._error))

    async def wait(self) -> None:
        """Wait until another task, or the end of the client, has stopped this consumer."""
        if self._loop_task is not None:
            await asyncio.shield(self._loop_task)

    def request_stop(self, timeout: float | None = None, *, give_back: bool = True) -> None:
        """Stop fetching, and let running handlers finish in time. This returns at once.

        Args:
            timeout: Seconds that handlers have to finish. Default: ``stop_timeout``. After several
                calls, the earliest deadline counts.
            give_back: Whether to give unfinished messages back, so that others get them at once.
                If False, the group delivers them again when their leases end. Default: True.

        Raises:
            InvalidRequest: ``timeout`` is not a number of seconds, or ``give_back`` is not a bool.
        """
        seconds = (
            self._options["stop_timeout"]
            if timeout is None
            else checks.seconds()("timeout", timeout)
        )
        self._processor.gives_back = checks.flag("give_back", give_back)
        self._stopping = True
        if self._interruptible is not None:
            self._interruptible.cancel()
        if self.is_running:
            deadline = asyncio.create_task(self._interrupt_after(seconds))
            self._deadlines.add(deadline)
            deadline.add_done_callback(self._deadlines.discard)

    async def stop(self, timeout: float | None = None, *, give_back: bool = True) -> None:
        """Stop as ``request_stop`` does, and wait for the end. You may call this again.

        If a handler calls this, it returns without waiting.

        Args:
            timeout: Seconds that handlers have to finish. Default: ``stop_timeout``. After that the
                consumer cancels handlers that are coroutines. This returns at most three seconds
                later, even if handlers, threads or the broker block.
            give_back: Whether to give unfinished messages back. Default: True.
        """
        self.request_stop(timeout, give_back=give_back)
        if not self._processor.is_calling_this_task:
            await self.wait()

    def abort(self) -> None:
        """Stop at once, as if the process had been killed. Call it on the consumer's event loop.

        It cancels handlers that are coroutines. A handler that calls this is cancelled at its next
        ``await``. Plain functions run on. The consumer acks and gives back no messages. The group
        delivers them again when their leases end. No effect after the end.
        """
        self._stopping = True
        if self._interruptible is not None:
            self._interruptible.cancel()
        self._processor.abort()

    async def _interrupt_after(self, seconds: float) -> None:
        await sleep(self._clock, seconds)
        self._processor.interrupt()

    async def _fetch(self, max_wait_ms: int) -> FetchResult:
        """Wait for a free slot. Then fetch as many messages as there are free slots."""
        # Wait here, so that no handler takes its slot back before the fetch.
        await self._processor.wait_for_slot()
        progress = self._acks.progress
        if progress is None:
            most = 1 if self._is_careful else self._options["num_msgs"]
            self._asked = min(most, self._processor.free_slots)
        else:
            self._asked = progress.num_msgs
        return await self._client.fetch(
            self._address,
            group_name=self._group,
            deliver=self._deliver,
            num_msgs=self._asked,
            max_wait_ms=max_wait_ms,
            lease_ms=lease_ms(self._options),
            redeliver_own=False,
            begun=True,
            consumer=self._name,
        )

    async def _run(self, fetched: FetchResult) -> None:
        try:
            await self._consume(fetched)
        finally:
            try:
                await self._processor.finish()
            finally:
                for task in self._deadlines:
                    task.cancel()

    async def _consume(self, fetched: FetchResult) -> None:
        pause = FIRST_PAUSE_S
        while True:
            if goes_by_offset(fetched):
                await self._consume_by_offset(fetched)
            else:
                if fetched:
                    self._is_careful = any(one.deaths for one in fetched)
                await self._processor.begin_several(fetched)
            if self._stopping:
                return
            asked_ms = self._clock.monotonic_ms()
            try:
                fetched = await self._until_stopped(self._fetch(self._max_wait_ms), FetchResult())
                pause = FIRST_PAUSE_S
                if not fetched:
                    left_ms = asked_ms + _SHORTEST_ROUND_MS - self._clock.monotonic_ms()
                    if left_ms > 0:
                        await self._until_stopped(sleep(self._clock, left_ms / 1000), None)
            except Mq9Error as error:
                if isinstance(error, NotConnected) and not isinstance(error, Unreachable):
                    _logger.info("%r ends, because its client was closed", self)
                    return
                if isinstance(error, self._ends_with):
                    self._error = error
                    return
                _logger.warning("%r could not fetch, trying again in %g s: %s", self, pause, error)
                fetched = FetchResult()
                await self._until_stopped(sleep(self._clock, pause), None)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _consume_by_offset(self, fetched: FetchResult) -> None:
        """Handle the due messages of a reply. Then ack all up to the first unhandled one."""
        progress = self._acks.progress
        if progress is None:
            _logger.info("%r is on a broker without leases and acks in order", self)
            progress = self._acks.progress = OffsetProgress(self._options["num_msgs"])
        asked = self._asked
        due = progress.due(fetched, self._clock.monotonic_ms())
        for message in due:
            await self._until_stopped(self._processor.wait_for_slot(), None)
            if self._stopping:
                break
            self._processor.begin(message)
        await self._processor.finish()
        last = progress.confirmed(fetched, asked)
        if last is not None and self._options["auto_ack"]:
            try:
                await self._acks.ack_up_to(last)
            except Mq9Error as error:
                _logger.warning("%r could not ack up to %d: %s", self, last, error)
        if not due and progress.num_msgs <= asked:
            await self._idle(progress.next_due_ms(fetched), crowded=len(fetched) >= MOST_FETCHED)

    async def _idle(self, due_ms: int | None, *, crowded: bool) -> None:
        """Pause, because the broker redelivers handled messages instead of waiting."""
        if crowded:
            _logger.warning(
                "%r has %d messages that it cannot ack before those that wait behind them",
                self,
                MOST_FETCHED,
            )
        pause = _IDLE_PAUSE_S
        if due_ms is not None:
            pause = min(pause, max(due_ms - self._clock.monotonic_ms(), 0) / 1000)
        await self._until_stopped(sleep(self._clock, pause), None)

    async def _until_stopped(self, work: Coroutine[Any, Any, T], otherwise: T) -> T:
        """Await ``work``. If the consumer stops, cancel it and return ``otherwise``."""
        if self._stopping:
            work.close()
            return otherwise
        task = self._interruptible = asyncio.create_task(work)
        try:
            await asyncio.wait([task])
        finally:
            self._interruptible = None
            task.cancel()  # has an effect only if this consumer itself was cancelled
        return otherwise if task.cancelled() else task.result()


def _name(agent: str | None, consumer: str) -> str:
    """Return the consumer's name, which starts with the name of its agent."""
    name: str = checks.header_text("consumer", consumer if agent is None else f"{agent}/{consumer}")
    return name
