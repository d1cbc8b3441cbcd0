"""Handle messages, and ack, retry or move them afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mq9.client import tracing
from mq9.client.consumer.acks import Acks
from mq9.client.consumer.calls import HandlerCall
from mq9.client.consumer.events import ConsumerCounters, ConsumerEventKind, Recorder
from mq9.client.consumer.giving_up import ErrorAnswers
from mq9.client.consumer.handling import Company, Decision, Handling
from mq9.client.consumer.options import ConsumerOptions, Handler, lease_ms
from mq9.client.consumer.outcomes import Reject, Retry, RetryPolicy
from mq9.client.error_answers import Failure, reference_of
from mq9.clock import sleep, wait_for_any
from mq9.errors import Mq9Error, ReplyForbidden, ReplyMailboxNotFound
from mq9.models import Message, Promise

_logger = logging.getLogger("mq9.consumer")

_ANSWERS = (str, bytes, bytearray, memoryview, Mapping, list, tuple)
_MOST_BEGUN = 1_000  # messages, including those whose handlers wait
_FREE_SOON_MS = 1_000  # the shortest lease
_PROMISED_AFTER_S = 1.0  # so that a quick answer needs no further request
_CANCEL_GRACE_S = 1.0  # for a cancelled handler to end
_LAST_REQUESTS_S = 3.0  # for all remaining work after the timeout of a stop

_without_slot: ContextVar[Callable[[], AbstractContextManager[None]]] = ContextVar(
    "mq9_without_slot", default=nullcontext
)
_back_at_work: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar(
    "mq9_back_at_work", default=None
)
_note_done: ContextVar[Callable[[str], None] | None] = ContextVar("mq9_note_done", default=None)

if TYPE_CHECKING:
    from mq9.client.client import Mq9Client


def without_slot() -> AbstractContextManager[None]:
    """Free the slot of the current handler while it waits in the context.

    The consumer can then start another message. Afterwards the handler has its slot again. If the
    other message still runs, one more handler runs than there are slots. Until ``back_at_work``,
    the message counts as idle: if the process dies, that is no death of this message. This takes
    effect within a third of a lease. Outside of handlers it does nothing.
    """
    return _without_slot.get()()


async def back_at_work() -> None:
    """Continue after ``without_slot``. Wait while another message runs alone."""
    again = _back_at_work.get()
    if again is not None:
        await again()


def note_done(done: str) -> None:
    """Record the progress of the message whose handler calls this.

    From the next renewal of the lease on, the consumer's promise includes it. Without
    ``answer_by``, the message has no promise, and this has no effect. Outside of handlers it does
    nothing.

    Args:
        done: The work done so far, cut to 1 024 characters.
    """
    note = _note_done.get()
    if note is not None:
        note(done)


class _Interrupted(Exception):
    """The consumer stopped, and the time for its handlers is over."""


class Processor:
    """Handles a consumer's messages, as many at a time as there are slots."""

    def __init__(
        self,
        name: str,
        client: Mq9Client,
        acks: Acks,
        handler: Handler,
        options: ConsumerOptions,
        recorder: Recorder,
    ) -> None:
        self._name = name
        self._client = client
        self._clock = client.clock  # usable after the client is closed
        self._acks = acks
        self._handler = handler
        self._options = options
        self._recorder = recorder
        self._retries = RetryPolicy(
            first_delay_ms=round(options["retry_delay"] * 1000),
            longest_delay_ms=round(options["max_retry_delay"] * 1000),
            # Without a dead-letter mailbox, a failing message is retried without a limit.
            max_deliveries=None if options["dead_letter"] is None else options["max_deliveries"],
            max_deaths=options["max_deaths"],
        )
        self._error_answers = ErrorAnswers(
            name, client, acks, options, has_answered=lambda: self._has_answered
        )
        self._has_answered = False
        self._company = Company()
        self._running: dict[asyncio.Task[None], Handling] = {}
        self._calls: set[asyncio.Task[Any]] = set()
        self._overdue: set[asyncio.Future[Any]] = set()
        self._slot_freed = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None
        self._interrupted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gives_back = True

    @property
    def free_slots(self) -> int:
        """Number of further messages that may start.

        Overdue handlers use slots. Handlers that wait ``without_slot`` use none. A message that
        must run alone uses all.
        """
        if any(one.is_alone and not one.is_waiting for one in self._running.values()):
            return 0
        waiting = sum(one.is_waiting for one in self._running.values())
        taken = len(self._running) - waiting + len(self._overdue)
        return min(self._options["concurrency"] - taken, _MOST_BEGUN - len(self._running))

    @property
    def counters(self) -> ConsumerCounters:
        """A snapshot of the counters."""
        return self._recorder.counters(in_flight=len(self._running), overdue=len(self._overdue))

    @property
    def is_calling_this_task(self) -> bool:
        """Whether the current task runs a handler."""
        return asyncio.current_task() in self._calls

    async def begin_several(self, messages: Sequence[Message]) -> None:
        """Start messages in the background, and free those that would have to wait.

        A message that must run alone waits until the others end. While it runs, the other messages
        of its fetch would wait. So their leases end soon, and other consumers get them.
        """
        begun = [one for one in messages if not one.deaths]
        first_alone = next((one for one in messages if one.deaths), None)
        if first_alone is not None:
            is_next = self._company.is_empty and first_alone is messages[0]
            begun = [first_alone] if is_next else [*begun, first_alone]
        for message in begun:
            self.begin(message)
        ids = {one.msg_id for one in begun}
        left = [one for one in messages if one.msg_id not in ids]
        if not left:
            return
        try:
            await self._acks.renew(left, _FREE_SOON_MS, begun=False)
        except Mq9Error as error:
            _logger.warning("%s leaves messages until their leases end: %s", self._name, error)

    def begin(self, message: Message) -> None:
        """Start to handle a message in the background."""
        if message.delivery_count > 1:
            self._take_over(message)
        handling = Handling(message, self._client, self._acks, self._options)
        task = asyncio.create_task(self._handle(handling))
        self._running[task] = handling
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew_leases())
            self._renewal.add_done_callback(log_unexpected)

        def finished(done: asyncio.Task[None]) -> None:
            del self._running[done]
            self._slot_freed.set()
            log_unexpected(done)

        task.add_done_callback(finished)

    def _take_over(self, message: Message) -> None:
        """Make earlier deliveries of a message end without an effect on it."""
        for one in self._running.values():
            if one.message.msg_id == message.msg_id:
                one.is_redelivered = True
        self._note_lost({message.msg_id})

    async def wait_for_slot(self) -> None:
        """Wait for a free slot."""
        while self.free_slots <= 0:
            self._slot_freed.clear()
            await self._slot_freed.wait()

    @contextmanager
    def _waiting(self, handling: Handling) -> Iterator[None]:
        handling.is_waiting = True
        self._company.leave(handling)
        self._slot_freed.set()
        try:
            yield
        finally:
            handling.is_waiting = False

    async def _enter(self, handling: Handling) -> None:
        """Wait until the message may be handled, and the broker knows that its handling begins.

        A message that must run alone may have lost its lease by then; see ``is_leased``.
        """
        if handling.is_at_work or handling.is_handled:
            return  # it runs already, or its time is up
        await self._company.enter(handling)
        if handling.is_alone:
            await self._mark_idle()
        if not handling.is_marked_idle or not handling.is_leased:
            return
        try:
            lost = await self._acks.renew([handling.message], lease_ms(self._options), begun=True)
        except Mq9Error as error:
            _logger.warning(
                "%s could not begin message %d: %s", self._name, handling.message.msg_id, error
            )
            handling.is_leased = False
        else:
            handling.is_marked_idle = False
            self._note_lost(lost)

    def interrupt(self) -> None:
        """End the time of the handlers. Their messages are given back."""
        if not self._interrupted.done():
            self._interrupted.set_result(None)

    def abort(self) -> None:
        """Cancel all handlers without any request to the broker."""
        for task in (*self._running, *self._calls):
            task.cancel()

    async def finish(self) -> None:
        """Wait until no handler runs. After ``interrupt`` this takes at most a few seconds."""
        try:
            while self._running and not self._interrupted.done():
                waiting = [*self._running, self._interrupted]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await self._cut_short()
        finally:
            if self._renewal is not None:
                self._renewal.cancel()

    async def _cut_short(self) -> None:
        """Wait until no handler runs, for at most a few seconds."""
        if not self._running:
            return
        late = set(self._running)
        await wait_for_any(
            self._clock, _LAST_REQUESTS_S, asyncio.gather(*late, return_exceptions=True)
        )
        for task in late:
            task.cancel()
        while self._running:
            await asyncio.wait(self._running)

    async def _renew_leases(self) -> None:
        """Renew the leases of running messages three times per lease, until none run."""
        while self._running:
            await sleep(self._clock, lease_ms(self._options) / 3000)
            held = [one for one in self._running.values() if one.is_leased]
            await self._renew(held)  # in one request, so that they would return in their order
            for one in held:
                await self._promise(one)
            await self._mark_idle()

    async def _mark_idle(self) -> None:
        """Tell the broker which fetched messages are idle, so that they cannot count deaths."""
        resting = [
            one
            for one in self._running.values()
            if one.is_leased and not (one.is_at_work or one.is_handled or one.is_marked_idle)
        ]
        for one in resting:
            one.is_marked_idle = True
        await self._renew(resting, begun=False)

    @contextmanager
    def _promising(self, handling: Handling) -> Iterator[None]:
        """Promise an answer, unless the handler ends within a second."""
        if handling.due_promise(self._clock.now_ms()) is None:
            yield
            return

        async def promise() -> None:
            await sleep(self._clock, _PROMISED_AFTER_S)
            await self._promise(handling)

        task = asyncio.create_task(promise())
        task.add_done_callback(log_unexpected)
        try:
            yield
        finally:
            task.cancel()

    async def _promise(self, handling: Handling) -> None:
        """Promise an answer to a message with a deadline, or report its progress."""
        promise = handling.due_promise(self._clock.now_ms())
        if promise is not None and await self._renew([handling], promise=promise):
            handling.promised = promise

    async def _renew(
        self,
        held: list[Handling],
        *,
        begun: bool | None = None,
        promise: Promise | None = None,
    ) -> bool:
        """Renew leases. Return whether the broker has replied."""
        if not held:
            return True
        messages = [one.message for one in held]
        try:
            lost = await self._acks.renew(
                messages, lease_ms(self._options), begun=begun, promise=promise
            )
        except Mq9Error as error:
            _logger.warning("%s could not renew its leases: %s", self._name, error)
            return False
        self._note_lost(lost)
        return True

    def _note_lost(self, msg_ids: set[int]) -> None:
        lost = [
            one
            for one in self._running.values()
            if one.is_leased and not one.is_handled and one.message.msg_id in msg_ids
        ]
        for one in lost:
            one.is_leased = False
            self._recorder.note(ConsumerEventKind.LEASE_LOST, one.message)
        if lost:
            ids = [one.message.msg_id for one in lost]
            _logger.warning("%s no longer holds %s, which it is handling", self._name, ids)

    async def _handle(self, handling: Handling) -> None:
        message = handling.message
        _without_slot.set(lambda: self._waiting(handling))
        _back_at_work.set(lambda: self._enter(handling))
        _note_done.set(handling.note_done)
        self._recorder.note(ConsumerEventKind.RECEIVED, message)
        reason = self._retries.why_not(message)
        try:
            if reason is not None:
                if self._options["dead_letter"] is None:
                    await self._report(message, Reject(reason))
                await self._give_up(handling, None, reason, answer=(Failure.FAILED, reason))
                return
            await self._enter(handling)
            if handling.is_alone and not handling.is_leased:
                return  # another consumer holds and handles it
            with handling, self._promising(handling):
                begun_ms = self._clock.monotonic_ms()
                error = await self._attempt(handling)
                seconds = (self._clock.monotonic_ms() - begun_ms) / 1000
                await self._conclude(handling, error, seconds)
        finally:
            handling.is_handled = True
            self._company.leave(handling)

    async def _attempt(self, handling: Handling) -> Exception | None:
        """Run the handler and send its answer. Return the error, or None."""
        message = handling.message
        try:
            with tracing.handling(message, self._acks.group_name):
                result = await self._call(
                    self._handler, message, seconds=self._options["handler_timeout"]
                )
                if message.reply_to is not None and isinstance(result, _ANSWERS):
                    await message.reply(result)
        except (TimeoutError, _Interrupted) as error:
            handling.is_leased = False
            return error
        except Exception as error:  # noqa: BLE001  # any error of a handler is reported
            return error
        finally:
            handling.is_handled = True
            self._has_answered |= handling.is_answered
        return None

    async def _call(
        self, function: Callable[..., Any], *arguments: object, seconds: float | None = None
    ) -> Any:
        """Call a function of the user."""
        call = HandlerCall(self._clock, function, *arguments)
        self._calls.add(call.task)
        call.task.add_done_callback(self._calls.discard)
        try:
            await wait_for_any(self._clock, seconds, call.task, self._interrupted)
            if call.task.done():
                return call.result()
            call.task.cancel()
            await wait_for_any(self._clock, _CANCEL_GRACE_S, call.task)
        except asyncio.CancelledError:
            call.task.cancel()
            raise
        self._keep_slot(call)
        if self._interrupted.done():
            raise _Interrupted("the consumer was stopped before the handler had ended")
        raise TimeoutError(f"the handler took longer than {seconds:g} s")

    def _keep_slot(self, call: HandlerCall) -> None:
        """Count a call that runs after its timeout as overdue, until it ends."""
        unfinished = call.unfinished
        if unfinished is None:
            return
        self._overdue.add(unfinished)

        def ended(done: asyncio.Future[Any]) -> None:
            self._overdue.discard(done)
            self._slot_freed.set()
            _logger.info("%s: a handler has ended after its time was up", self._name)

        unfinished.add_done_callback(ended)

    async def _conclude(self, handling: Handling, error: Exception | None, seconds: float) -> None:
        """Complete a message after its handler has ended.

        The handler's own decision about the message stays, even if the handler raises afterwards.
        """
        message = handling.message

        def note(kind: ConsumerEventKind) -> None:
            self._recorder.note(kind, message, duration=seconds, error=error)

        match error:
            case None:
                note(ConsumerEventKind.PROCESSED)
            case ReplyMailboxNotFound():
                note(ConsumerEventKind.UNANSWERED)
                self._log_unanswered(message, error)
            case _Interrupted():
                note(ConsumerEventKind.INTERRUPTED)
            case Reject() | ReplyForbidden():
                note(ConsumerEventKind.REJECTED)
                if handling.decision is not None or self._options["dead_letter"] is None:
                    await self._report(message, error)
            case Retry():
                pass
            case _:
                note(ConsumerEventKind.FAILED)
                await self._report(message, error)
        if handling.decision is None:
            await self._ack_or_give_back(handling, error)
        elif handling.decision is Decision.GIVEN_BACK:
            self._recorder.note(ConsumerEventKind.RETRIED, message, error=error)

    async def _ack_or_give_back(self, handling: Handling, error: Exception | None) -> None:
        """Ack a message, give it back or move it, because its handler has not decided."""
        message = handling.message
        if error is not None and handling.is_redelivered:
            return  # the later delivery decides, under the same consumer name
        match error:
            case None:
                if self._options["auto_ack"] or message.batch is None:
                    await self._ack(message)
                else:  # the user acks it later: keep the lease, without counting deaths
                    await self._renew([handling], begun=False)
            case ReplyMailboxNotFound():
                await self._ack(message)
            case _Interrupted():
                if self.gives_back:
                    await self._give_back(message, 0, str(error))
                elif message.batch is not None:
                    await self._renew([handling], begun=False)
            case Reject():
                reason = str(error)
                await self._give_up(handling, error, reason, answer=(Failure.REJECTED, reason))
            case ReplyForbidden():  # another attempt would not help
                await self._give_up(handling, error, str(error), answer=None)
            case _:
                await self._retry(handling, error)

    async def _give_up(
        self,
        handling: Handling,
        cause: Exception | None,
        reason: str,
        *,
        answer: tuple[Failure, str] | None,
    ) -> None:
        """Move a message to the dead-letter mailbox. Without one, ack it.

        Before that, send an error answer to its sender. If the lease is lost, another consumer has
        the message or will get it, so this does nothing.
        """
        message, dead_letter = handling.message, self._options["dead_letter"]
        before = self._options["before_dead_letter"]
        if not await self._still_holds(handling):
            return
        if dead_letter is not None and before is not None:
            try:
                await self._call(before, message, cause)
            except Exception as error:  # noqa: BLE001  # any error of the user's function
                await self._report(message, error)
                await self._give_back(message, self._retries.longest_delay_ms, _reason(error))
                return
            if not await self._still_holds(handling):
                return
        if answer is not None and not handling.is_answered:
            await self._error_answers.send(message, *answer)
        if dead_letter is not None:
            await self._move(message, dead_letter, reason)
        elif await self._ack(message):
            self._recorder.note(ConsumerEventKind.GIVEN_UP, message, error=cause)

    async def _still_holds(self, handling: Handling) -> bool:
        """Renew the lease of a message before giving it up. Return whether it was held."""
        message = handling.message
        try:
            is_held = await self._acks.is_held(message, lease_ms(self._options))
        except Mq9Error as error:
            await self._report(message, error)
            return False
        if is_held:
            handling.is_leased = message.batch is not None  # even after a handler timeout
            return True
        _logger.warning(
            "%s no longer holds message %d, and so does not give it up", self._name, message.msg_id
        )
        if handling.is_leased:
            handling.is_leased = False
            self._recorder.note(ConsumerEventKind.LEASE_LOST, message)
        return False

    def _log_unanswered(self, message: Message, error: ReplyMailboxNotFound) -> None:
        """Log the first message whose sender does not wait. Further ones are only counted."""
        _logger.log(
            logging.DEBUG if self.counters.unanswered > 1 else logging.INFO,
            "%s leaves message %d unanswered, and from now on only counts such messages: %s",
            self._name,
            message.msg_id,
            error,
        )

    async def _retry(self, handling: Handling, error: Exception) -> None:
        """Give a message back for another delivery. After the last one, give it up."""
        message = handling.message
        shown = type(error).__name__  # only the class: the sender may be a stranger
        if self._retries.is_exhausted(message):
            await self._give_up(handling, error, _reason(error), answer=(Failure.FAILED, shown))
            return
        delay_ms = self._retries.delay_ms(message, error)
        if not handling.is_answered:
            await self._error_answers.send_if_expiring(message, delay_ms, shown)
        self._recorder.note(ConsumerEventKind.RETRIED, message, error=error)
        await self._give_back(message, delay_ms, _reason(error))

    async def _move(self, message: Message, dead_letter: str, reason: str) -> None:
        """Move a message to the dead-letter mailbox. If that fails, try again later."""
        try:
            is_moved = await self._acks.move(message, dead_letter, reason)
        except Mq9Error as error:
            await self._report(message, error)
            await self._give_back(message, self._retries.longest_delay_ms, reason)
            return
        if is_moved:
            self._recorder.note(ConsumerEventKind.DEAD_LETTERED, message)

    async def _ack(self, message: Message) -> bool:
        """Ack a message. Return whether the broker has done so."""
        try:
            return bool(await self._acks.ack(message))
        except Mq9Error as error:
            await self._report(message, error)
            return False

    async def _give_back(self, message: Message, delay_ms: int, reason: str) -> None:
        try:
            await self._acks.give_back(message, delay_ms / 1000, reason)
        except Mq9Error as error:
            _logger.warning(
                "%s could not give back message %d, its lease runs out instead: %s",
                self._name,
                message.msg_id,
                error,
            )

    async def _report(self, message: Message, error: Exception) -> None:
        """Report an error to the error handler. Without one, or after a stop, log it."""
        error_handler = self._options["error_handler"]
        if error_handler is None or self._interrupted.done():
            _logger.error(
                "%s failed on message %d (reference %s)",
                self._name,
                message.msg_id,
                reference_of(message),
                exc_info=error,
            )
            return
        try:
            await self._call(error_handler, message, error)
        except Exception:
            _logger.exception(
                "the error handler of %s raised on message %d, which failed with %r",
                self._name,
                message.msg_id,
                error,
            )


def _reason(error: Exception) -> str:
    """Return an error as a reason, with its notes."""
    notes: list[str] = getattr(error, "__notes__", [])
    return "\n".join([f"{type(error).__name__}: {error}", *notes])


def log_unexpected(task: asyncio.Task[None]) -> None:
    """Log an unexpected error of a background task."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.critical("a consumer's task failed unexpectedly", exc_info=error)
