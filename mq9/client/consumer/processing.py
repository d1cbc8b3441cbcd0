"""Handling messages, and what follows from how that ended."""

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
_MOST_BEGUN = 1_000  # messages, those included whose handlers wait
_FREE_SOON_MS = 1_000  # the shortest lease
_PROMISED_AFTER_S = 1.0  # so that what is answered at once takes no further request
_CANCEL_GRACE_S = 1.0  # for a cancelled handler to end
_LAST_REQUESTS_S = 3.0  # for everything that follows when handlers are given no more time

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
    """Let the consumer begin another message while the handler that calls this waits inside.

    The slot is the handler's again afterwards. If the other message is still at work then, there is
    one more at work than there are slots. From here until ``back_at_work`` the message is not being
    handled: a process that dies meanwhile has not died of it, once a third of a lease has passed.
    Outside of handlers it does nothing.
    """
    return _without_slot.get()()


async def back_at_work() -> None:
    """Go on after ``without_slot``, as soon as no message is handled alone; see there."""
    again = _back_at_work.get()
    if again is not None:
        await again()


def note_done(done: str) -> None:
    """Say what is done so far of the message whose handler calls this.

    What the consumer promises of the message has it from the next renewal of its lease on. A
    message without ``answer_by`` is promised by nobody, and so nothing follows. Outside of handlers
    it does nothing.

    Args:
        done: What is done, cut at 1 024 characters.
    """
    note = _note_done.get()
    if note is not None:
        note(done)


class _Interrupted(Exception):
    """The consumer was stopped, and gives its handlers no more time."""


class Processor:
    """Handles a consumer's messages, as many at a time as it has slots."""

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
        self._clock = client.clock  # still there when the client is closed
        self._acks = acks
        self._handler = handler
        self._options = options
        self._recorder = recorder
        self._retries = RetryPolicy(
            first_delay_ms=round(options["retry_delay"] * 1000),
            longest_delay_ms=round(options["max_retry_delay"] * 1000),
            # What keeps failing harms nobody else, and is tried until there is a place for it.
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
        """Number of further messages that may begin.

        Overdue handlers take slots, too; those that wait ``without_slot`` take none. A message that
        is to be handled alone takes all.
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
        """Whether the current task is a handler's."""
        return asyncio.current_task() in self._calls

    async def begin_several(self, messages: Sequence[Message]) -> None:
        """Handle messages in the background, and leave to others what would have to wait.

        One that is to be handled alone waits for those that are at work. While it is handled, the
        others of its fetch would wait; so they are soon free for other consumers.
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
        """Handle a message in the background."""
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
        """Let nothing follow any more from how earlier deliveries of a message end."""
        for one in self._running.values():
            if one.message.msg_id == message.msg_id:
                one.is_delivered_anew = True
        self._note_lost({message.msg_id})

    async def wait_for_slot(self) -> None:
        """Return when there is a free slot."""
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
        """Return when the message may be handled, and the broker knows that it is.

        The lease of what is to be handled alone may be lost by then, or unknown; see ``is_leased``.
        """
        if handling.is_at_work or handling.is_handled:
            return  # it is already, or its time is up
        await self._company.enter(handling)
        if handling.is_alone:
            await self._tell_who_rests()
        if not handling.is_told_to_wait or not handling.is_leased:
            return
        try:
            lost = await self._acks.renew([handling.message], lease_ms(self._options), begun=True)
        except Mq9Error as error:
            _logger.warning(
                "%s could not begin message %d: %s", self._name, handling.message.msg_id, error
            )
            handling.is_leased = False
        else:
            handling.is_told_to_wait = False
            self._note_lost(lost)

    def interrupt(self) -> None:
        """Give handlers no more time; their messages are given back."""
        if not self._interrupted.done():
            self._interrupted.set_result(None)

    def abort(self) -> None:
        """Cancel all handlers, and tell the broker nothing of their messages."""
        for task in (*self._running, *self._calls):
            task.cancel()

    async def finish(self) -> None:
        """Return when nothing is being handled; within a few seconds once interrupted."""
        try:
            while self._running and not self._interrupted.done():
                waiting = [*self._running, self._interrupted]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await self._cut_short()
        finally:
            if self._renewal is not None:
                self._renewal.cancel()

    async def _cut_short(self) -> None:
        """Return when nothing is being handled, within a few seconds."""
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
        """Renew, three times a lease, what is being handled, until nothing is."""
        while self._running:
            await sleep(self._clock, lease_ms(self._options) / 3000)
            held = [one for one in self._running.values() if one.is_leased]
            await self._renew(held)  # all at once, so that they would come again in their order
            for one in held:
                await self._promise(one)
            await self._tell_who_rests()

    async def _tell_who_rests(self) -> None:
        """Tell the broker which messages are not being handled, although they were fetched."""
        resting = [
            one
            for one in self._running.values()
            if one.is_leased and not (one.is_at_work or one.is_handled or one.is_told_to_wait)
        ]
        for one in resting:
            one.is_told_to_wait = True
        await self._renew(resting, begun=False)

    @contextmanager
    def _promising(self, handling: Handling) -> Iterator[None]:
        """Promise an answer unless the message is handled within a moment."""
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
        """Promise an answer to a message that is to be answered in time, or say what is done."""
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
        """Renew leases; tell whether the broker has answered."""
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
                await self._give_up(handling, None, reason, told=(Failure.FAILED, reason))
                return
            await self._enter(handling)
            if handling.is_alone and not handling.is_leased:
                return  # its present holder handles it
            with handling, self._promising(handling):
                begun_ms = self._clock.monotonic_ms()
                error = await self._attempt(handling)
                seconds = (self._clock.monotonic_ms() - begun_ms) / 1000
                await self._conclude(handling, error, seconds)
        finally:
            handling.is_handled = True
            self._company.leave(handling)

    async def _attempt(self, handling: Handling) -> Exception | None:
        """Run the handler and send its answer. Return the error that came of it, if one did."""
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
        except Exception as error:  # noqa: BLE001  # a handler may raise anything; it is reported
            return error
        finally:
            handling.is_handled = True
            self._has_answered |= handling.is_answered
        return None

    async def _call(
        self, function: Callable[..., Any], *arguments: object, seconds: float | None = None
    ) -> Any:
        """Call a function of the user's."""
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
        """Count a call that goes on although its time is up, until it ends."""
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
        """Do with a message what follows from how its handling ended.

        What its handler has done with it itself stands, also when it raises afterwards.
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
        """Ack a message, give it back or move it, since its handler has done none of these."""
        message = handling.message
        if error is not None and handling.is_delivered_anew:
            return  # the later delivery is handled, under the same name
        match error:
            case None:
                if self._options["auto_ack"] or message.batch is None:
                    await self._ack(message)
                else:  # it is acked later: it stays leased for so long, and no worker dies of it
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
                await self._give_up(handling, error, reason, told=(Failure.REJECTED, reason))
            case ReplyForbidden():  # to handle it once more would not help
                await self._give_up(handling, error, str(error), told=None)
            case _:
                await self._retry(handling, error)

    async def _give_up(
        self,
        handling: Handling,
        cause: Exception | None,
        reason: str,
        *,
        told: tuple[Failure, str] | None,
    ) -> None:
        """Move a message to the dead letters, or ack it where there is no such mailbox.

        Its sender is told first. A message whose lease is lost is another consumer's, or will be
        delivered again, and is left to that.
        """
        message, dead_letter = handling.message, self._options["dead_letter"]
        before = self._options["before_dead_letter"]
        if not await self._still_holds(handling):
            return
        if dead_letter is not None and before is not None:
            try:
                await self._call(before, message, cause)
            except Exception as error:  # noqa: BLE001  # a function of the user's; it is reported
                await self._report(message, error)
                await self._give_back(message, self._retries.longest_delay_ms, _reason(error))
                return
            if not await self._still_holds(handling):
                return
        if told is not None and not handling.is_answered:
            await self._error_answers.send(message, *told)
        if dead_letter is not None:
            await self._move(message, dead_letter, reason)
        elif await self._ack(message):
            self._recorder.note(ConsumerEventKind.GIVEN_UP, message, error=cause)

    async def _still_holds(self, handling: Handling) -> bool:
        """Renew the lease of a message that is about to be given up; tell whether it was held."""
        message = handling.message
        try:
            is_held = await self._acks.is_held(message, lease_ms(self._options))
        except Mq9Error as error:
            await self._report(message, error)
            return False
        if is_held:
            handling.is_leased = message.batch is not None  # also if its handler took too long
            return True
        _logger.warning(
            "%s no longer holds message %d, and so does not give it up", self._name, message.msg_id
        )
        if handling.is_leased:
            handling.is_leased = False
            self._recorder.note(ConsumerEventKind.LEASE_LOST, message)
        return False

    def _log_unanswered(self, message: Message, error: ReplyMailboxNotFound) -> None:
        """Log the first message that nobody waits for the answer to; the others are counted."""
        _logger.log(
            logging.DEBUG if self.counters.unanswered > 1 else logging.INFO,
            "%s leaves message %d unanswered, and from now on only counts such messages: %s",
            self._name,
            message.msg_id,
            error,
        )

    async def _retry(self, handling: Handling, error: Exception) -> None:
        """Let a message be delivered again, or give it up if it has been often enough."""
        message = handling.message
        told = type(error).__name__  # no more of it: the sender is a stranger
        if self._retries.is_exhausted(message):
            await self._give_up(handling, error, _reason(error), told=(Failure.FAILED, told))
            return
        delay_ms = self._retries.delay_ms(message, error)
        if not handling.is_answered:
            await self._error_answers.send_if_expiring(message, delay_ms, told)
        self._recorder.note(ConsumerEventKind.RETRIED, message, error=error)
        await self._give_back(message, delay_ms, _reason(error))

    async def _move(self, message: Message, dead_letter: str, reason: str) -> None:
        """Move a message to the dead-letter mailbox; where that fails, it is tried again later."""
        try:
            is_moved = await self._acks.move(message, dead_letter, reason)
        except Mq9Error as error:
            await self._report(message, error)
            await self._give_back(message, self._retries.longest_delay_ms, reason)
            return
        if is_moved:
            self._recorder.note(ConsumerEventKind.DEAD_LETTERED, message)

    async def _ack(self, message: Message) -> bool:
        """Confirm a message, and tell whether the broker has done so."""
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
        """Tell the error handler, or the log where there is none or no time for it."""
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
    """Return an error as a reason, with the notes that were added to it."""
    notes: list[str] = getattr(error, "__notes__", [])
    return "\n".join([f"{type(error).__name__}: {error}", *notes])


def log_unexpected(task: asyncio.Task[None]) -> None:
    """Log the error of a background task that should have had none."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.critical("a consumer's task failed unexpectedly", exc_info=error)
