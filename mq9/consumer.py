"""The background consumer: fetch, handle, ack, and retry what failed."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from mq9 import address as addresses
from mq9.by_offset import MOST_FETCHED, Progress
from mq9.clock import sleep
from mq9.errors import (
    InvalidRequest,
    Mq9Error,
    NotConnected,
    ReplyMailboxNotFound,
    Unreachable,
)
from mq9.models import Deliver, FetchResult, Message
from mq9.outcomes import MAX_DELAY_S, Reject, Retry
from mq9.protocol import checks, requests
from mq9.protocol.robustmq import goes_by_offset

if TYPE_CHECKING:
    from mq9.client import Mq9Client

Handler: TypeAlias = Callable[[Message], Awaitable[object] | object]
ErrorHandler: TypeAlias = Callable[[Message, Exception], Awaitable[object] | object]
T = TypeVar("T")

_ANSWERS = (str, bytes, bytearray, memoryview, Mapping, list, tuple)
_logger = logging.getLogger("mq9.consumer")
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0  # between attempts to reach a broker that does not answer
_IDLE_PAUSE_S = 1.0  # where a broker hands out again what is handled, instead of waiting


class Consumer:
    """Handles the messages of one mailbox until it is stopped; made by ``Mq9Client.consume``.

    It fetches only as many messages as it has free slots, renews the leases of those it is
    handling, and acks each by itself once its handler has returned. A handler that raises leaves
    its message unacked: it is delivered again after a delay that doubles with every delivery. After
    ``max_deliveries`` it is moved to the ``dead_letter`` mailbox (see ``Mq9Client.move``), where
    ``moved`` says what it was and why. While that mailbox is missing or full, the message stays
    where it is, the error is reported, and the move is tried again every ``max_retry_delay``
    without running the handler. Without ``dead_letter`` a message is retried for as long as it is
    stored.

    A plain function runs in a worker thread, so that it may block; a coroutine function runs on the
    event loop. Text, bytes, a dict or a list that it returns is sent as the answer to a message
    that says ``reply_to``; anything else that it returns is ignored. A handler that raises
    ``Reject`` or ``Retry`` decides itself what becomes of its message. When the asker no longer
    waits for an answer, the message is acked and counted as unanswered.

    On a broker without leases, RobustMQ, it acks only that before which nothing is left to handle;
    docs/robustmq.md says what is promised there.

    Args:
        client: The client to fetch and ack with.
        mail_address: The mailbox.
        handler: Gets each message.
        group_name: The consumer group; without it, one of this consumer's own that starts at
            ``deliver``.
        deliver: Where a new group starts.
        num_msgs: How many to fetch at once at the most.
        max_wait_ms: How long one fetch waits for a message.
        auto_ack: Whether a message is acked when its handler returns; otherwise that is the
            handler's to do, before its lease ends.
        error_handler: Gets the message and what went wrong with it; without it, that is logged.
        concurrency: How many messages are handled at the same time, 1 to 1 000.
        lease_ms: How long a message stays leased if this process dies, 1 000 to 86 400 000.
        max_deliveries: After how many deliveries a message is moved to ``dead_letter``.
        dead_letter: The mailbox for messages that cannot be handled.
        retry_delay: Seconds before a failed message is delivered again for the first time.
        max_retry_delay: The longest that delay grows to, in seconds; up to a day.

    Attributes:
        processed_count: How many messages were handled without an error.
        failed_count: How often a handler raised.
        rejected_count: How often a handler raised ``Reject``.
        unanswered_count: How many messages were done with because their asker no longer waits.
    """

    def __init__(
        self,
        client: Mq9Client,
        mail_address: str,
        handler: Handler,
        *,
        group_name: str | None,
        deliver: Deliver | str,
        num_msgs: int,
        max_wait_ms: int,
        auto_ack: bool,
        error_handler: ErrorHandler | None,
        concurrency: int,
        lease_ms: int,
        max_deliveries: int,
        dead_letter: str | None,
        retry_delay: float,
        max_retry_delay: float,
    ) -> None:
        if not callable(handler):
            raise InvalidRequest(f"handler: {checks.shown(handler)} cannot be called")
        if error_handler is not None and not callable(error_handler):
            raise InvalidRequest(f"error_handler: {checks.shown(error_handler)} cannot be called")
        one_to_1000 = checks.whole(1, 1_000)
        a_day = checks.seconds(MAX_DELAY_S)
        self._client = client
        self._address = addresses.parse(mail_address)
        self._handler = handler
        self._error_handler = error_handler
        self._name = f"consumer.{client.new_id()}"
        self._group: str = (
            checks.optional(checks.header_text)("group_name", group_name) or self._name
        )
        self._deliver = deliver
        self._num_msgs = one_to_1000("num_msgs", num_msgs)
        self._max_wait_ms = checks.whole(0, 60_000)("max_wait_ms", max_wait_ms)
        self._auto_ack = checks.flag("auto_ack", auto_ack)
        self._concurrency = one_to_1000("concurrency", concurrency)
        self._lease_ms = checks.whole(1_000, requests.MAX_LEASE_MS)("lease_ms", lease_ms)
        self._max_deliveries = checks.whole(1, 1_000_000)("max_deliveries", max_deliveries)
        self._dead_letter = None if dead_letter is None else addresses.parse(dead_letter)
        if self._dead_letter == self._address:
            raise InvalidRequest(f"dead_letter: {self._address} is the mailbox itself")
        self._max_retry_ms = round(a_day("max_retry_delay", max_retry_delay) * 1000)
        self._retry_ms = round(a_day("retry_delay", retry_delay) * 1000)
        self._clock = client.clock  # still there when the client is closed
        self._threads = ThreadPoolExecutor(self._concurrency, "mq9-handler")
        # What is being handled, and the id that is leased, if it is; an id may be there twice, as
        # when its mailbox was made anew.
        self._running: dict[asyncio.Task[None], int | None] = {}
        self._progress: Progress | None = None  # on a broker without leases
        self._asked = 0  # how many messages the latest fetch asked for
        self._loop_task: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._interruptible: asyncio.Task[Any] | None = None
        self._stopping = False
        self.processed_count = 0
        self.failed_count = 0
        self.rejected_count = 0
        self.unanswered_count = 0

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<Consumer of {self._address}, group {self._group}, {state}>"

    @property
    def is_running(self) -> bool:
        """Whether it fetches, or still finishes what it fetched."""
        return self._loop_task is not None and not self._loop_task.done()

    @property
    def group_name(self) -> str:
        """The consumer group it belongs to."""
        return self._group

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def start(self, on_end: Callable[[Consumer], object]) -> None:
        """Make sure that the group exists, and begin; ``Mq9Client.consume`` has done this.

        Args:
            on_end: Called when it has ended.
        """
        first = await self._fetch(max_wait_ms=0)
        # Should the mailbox be made anew, all that comes into it is news.
        self._deliver = Deliver.EARLIEST
        self._loop_task = asyncio.create_task(self._run(first), name=f"mq9 {self._address}")
        self._loop_task.add_done_callback(_log_unexpected)
        self._loop_task.add_done_callback(lambda _: on_end(self))

    async def wait(self) -> None:
        """Return when it has been stopped, by another task or with its client."""
        if self._loop_task is not None:
            await asyncio.shield(self._loop_task)

    async def stop(self) -> None:
        """Fetch no more, and return when what is being handled is finished. May be repeated.

        A handler that calls this is not waited for: it would wait for itself.
        """
        self._stopping = True
        if self._interruptible is not None:
            self._interruptible.cancel()
        if asyncio.current_task() not in self._running:
            await self.wait()

    async def _fetch(self, max_wait_ms: int) -> FetchResult:
        if self._progress is None:
            self._asked = min(self._num_msgs, self._concurrency - len(self._running))
        else:
            self._asked = self._progress.num_msgs
        return await self._client.fetch(
            self._address,
            group_name=self._group,
            deliver=self._deliver,
            num_msgs=self._asked,
            max_wait_ms=max_wait_ms,
            lease_ms=self._lease_ms,
            redeliver_own=False,
            consumer=self._name,
        )

    async def _run(self, fetched: FetchResult) -> None:
        self._renewal = asyncio.create_task(self._renew_leases())
        self._renewal.add_done_callback(_log_unexpected)
        try:
            await self._consume(fetched)
        finally:
            try:
                while self._running:
                    await asyncio.wait(self._running)
            finally:
                self._renewal.cancel()
                self._threads.shutdown(wait=False)

    async def _consume(self, fetched: FetchResult) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            if goes_by_offset(fetched):
                await self._consume_by_offset(fetched)
            else:
                for message in fetched:
                    self._begin(message)
            if self._stopping:
                return
            try:
                while len(self._running) >= self._concurrency:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                fetched = await self._until_stopped(self._fetch(self._max_wait_ms), FetchResult())
                pause = _FIRST_PAUSE_S
            except Mq9Error as error:
                if isinstance(error, NotConnected) and not isinstance(error, Unreachable):
                    _logger.info("%r ends, because its client was closed", self)
                    return
                _logger.warning("%r could not fetch, trying again in %g s: %s", self, pause, error)
                fetched = FetchResult()
                await self._until_stopped(sleep(self._clock, pause), None)
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _consume_by_offset(self, fetched: FetchResult) -> None:
        """Handle what is due of a reply, then ack as far as nothing before it is left."""
        if self._progress is None:
            _logger.info("%r is on a broker without leases and acks in order", self)
            self._progress = Progress(self._num_msgs)
        progress, asked = self._progress, self._asked
        due = progress.due(fetched, self._clock.now_ms())
        for message in due:
            while len(self._running) >= self._concurrency:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping:
                break
            self._begin(message)
        while self._running:
            await asyncio.wait(self._running)
        last = progress.confirmed(fetched, asked)
        if last is not None and self._auto_ack:
            try:
                await self._client.ack(self._address, self._group, last, consumer=self._name)
            except Mq9Error as error:
                _logger.warning("%r could not ack up to %d: %s", self, last, error)
        if not due and progress.num_msgs <= asked:
            await self._idle(progress.next_due_ms(fetched), crowded=len(fetched) >= MOST_FETCHED)

    async def _idle(self, due_ms: int | None, *, crowded: bool) -> None:
        """Pause, since the broker does not: it hands out what is handled and cannot be acked."""
        if crowded:
            _logger.warning(
                "%r has %d messages that it cannot ack before those that wait behind them",
                self,
                MOST_FETCHED,
            )
        pause = _IDLE_PAUSE_S
        if due_ms is not None:
            pause = min(pause, max(due_ms - self._clock.now_ms(), 0) / 1000)
        await self._until_stopped(sleep(self._clock, pause), None)

    async def _until_stopped(self, work: Coroutine[Any, Any, T], otherwise: T) -> T:
        """Await ``work``; when stopped meanwhile, cancel it and return ``otherwise``."""
        if self._stopping:
            work.close()
            return otherwise
        task = self._interruptible = asyncio.create_task(work)
        try:
            await asyncio.wait([task])
        finally:
            self._interruptible = None
            task.cancel()  # harmless when it is done; otherwise this consumer was cancelled itself
        return otherwise if task.cancelled() else task.result()

    def _begin(self, message: Message) -> None:
        task = asyncio.create_task(self._handle(message))
        self._running[task] = None if message.batch is None else message.msg_id

        def finished(done: asyncio.Task[None]) -> None:
            del self._running[done]
            _log_unexpected(done)

        task.add_done_callback(finished)

    async def _handle(self, message: Message) -> None:
        if self._dead_letter is not None and message.delivery_count > self._max_deliveries:
            reason = f"delivered {message.delivery_count - 1} times and never acked"
            await self._give_up(message, self._dead_letter, reason)
            return
        try:
            await self._answer(message, await self._call(self._handler, message))
        except Reject as rejection:
            await self._reject(message, rejection)
            return
        except Retry as retry:
            await self._retry_or_give_up(message, retry)
            return
        except ReplyMailboxNotFound as error:
            await self._leave_unanswered(message, error)
            return
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._fail(message, RuntimeError(f"the handler raised {error!r}"))
            return
        except Exception as error:  # noqa: BLE001  # a handler may raise anything; it is reported
            await self._fail(message, error)
            return
        self.processed_count += 1
        if self._auto_ack or message.batch is None:
            await self._ack(message)

    async def _answer(self, message: Message, result: object) -> None:
        """Send what a handler returned to whoever asked."""
        if message.reply_to is not None and isinstance(result, _ANSWERS):
            await self._client.reply(message, result)

    async def _leave_unanswered(self, message: Message, error: ReplyMailboxNotFound) -> None:
        """Ack a message whose asker no longer waits; one is worth a line in the log."""
        self.unanswered_count += 1
        _logger.log(
            logging.DEBUG if self.unanswered_count > 1 else logging.INFO,
            "%r leaves message %d unanswered, and from now on only counts such messages: %s",
            self,
            message.msg_id,
            error,
        )
        await self._ack(message)

    async def _reject(self, message: Message, rejection: Reject) -> None:
        self.rejected_count += 1
        if self._dead_letter is not None:
            await self._give_up(message, self._dead_letter, str(rejection))
            return
        await self._report(message, rejection)
        await self._ack(message)

    async def _ack(self, message: Message) -> None:
        if message.batch is None and self._progress is not None:
            self._progress.done(message)  # acked with the others of its reply
            return
        try:
            await self._client.ack(
                self._address,
                self._group,
                message.msg_id,
                batch=message.batch,
                individual=True,
                consumer=self._name,
            )
        except Mq9Error as error:
            await self._report(message, error)

    async def _fail(self, message: Message, error: Exception) -> None:
        self.failed_count += 1
        await self._report(message, error)
        await self._retry_or_give_up(message, error)

    async def _retry_or_give_up(self, message: Message, error: Exception) -> None:
        if self._dead_letter is not None and message.delivery_count >= self._max_deliveries:
            await self._give_up(message, self._dead_letter, f"{type(error).__name__}: {error}")
            return
        if isinstance(error, Retry) and error.after is not None:
            await self._give_back(message, round(error.after * 1000))
            return
        doubled = self._retry_ms * 2 ** min(max(message.delivery_count - 1, 0), 40)
        await self._give_back(message, min(doubled, self._max_retry_ms))

    async def _give_back(self, message: Message, delay_ms: int) -> None:
        if message.batch is None and self._progress is not None:
            self._progress.failed(message, self._clock.now_ms() + delay_ms)
            return
        try:
            await self._client.nack(
                self._address,
                self._group,
                message.msg_id,
                batch=message.batch,
                delay_ms=delay_ms,
                consumer=self._name,
            )
        except Mq9Error as error:
            _logger.warning(
                "%r could not give back message %d, its lease runs out instead: %s",
                self,
                message.msg_id,
                error,
            )

    async def _give_up(self, message: Message, dead_letter: str, reason: str) -> None:
        """Move a message to the dead-letter mailbox; where that fails, it is tried again later."""
        try:
            if message.batch is not None:
                await self._client.move(
                    self._address,
                    self._group,
                    message.msg_id,
                    to=dead_letter,
                    reason=_as_reason(reason),
                    batch=message.batch,
                    consumer=self._name,
                )
                return
            await self._send_to(dead_letter, message)
        except Mq9Error as error:
            await self._report(message, error)
            await self._give_back(message, self._max_retry_ms)
            return
        await self._ack(message)

    async def _send_to(self, dead_letter: str, message: Message) -> None:
        """Send a message on, where the broker cannot move it."""
        await self._client.send(
            dead_letter,
            message.payload,
            priority=message.priority,
            tags=message.tags,
            sender=message.sender,
            reply_to=message.reply_to,
            correlation_id=message.correlation_id,
            path=message.path,
            headers=message.headers,
        )

    async def _report(self, message: Message, error: Exception) -> None:
        if self._error_handler is None:
            _logger.error("%r failed on message %d", self, message.msg_id, exc_info=error)
            return
        try:
            await self._call(self._error_handler, message, error)
        except Exception:
            _logger.exception(
                "the error handler of %r raised on message %d, which failed with %r",
                self,
                message.msg_id,
                error,
            )

    async def _call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function of the user's: a coroutine function here, a plain one in a thread."""
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is async
        ):
            return await function(*arguments)
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        result = await loop.run_in_executor(self._threads, context.run, function, *arguments)
        return await result if inspect.isawaitable(result) else result

    async def _renew_leases(self) -> None:
        """Renew, three times a lease, what is being handled."""
        while True:
            await sleep(self._clock, self._lease_ms / 3000)
            held = [msg_id for msg_id in self._running.values() if msg_id is not None]
            if not held:
                continue
            try:
                renewed = await self._client.extend(
                    self._address, self._group, held, lease_ms=self._lease_ms, consumer=self._name
                )
            except Mq9Error as error:
                _logger.warning("%r could not renew its leases: %s", self, error)
                continue
            lost = [msg_id for msg_id in renewed.lost if msg_id in self._running.values()]
            if lost:
                _logger.warning("%r no longer holds %s, which it is handling", self, lost)


def _log_unexpected(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.critical("a consumer's task failed unexpectedly", exc_info=error)


def _as_reason(text: str) -> str:
    """Return ``text`` as the reason of a move: such as UTF-8 can carry, and not too long."""
    return text.encode("utf-8", "backslashreplace").decode()[: requests.MAX_REASON]
