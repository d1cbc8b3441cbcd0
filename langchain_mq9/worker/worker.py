"""A graph that is run by the mail of an agent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar, Unpack

from langgraph.types import Interrupt, StateSnapshot
from pydantic import ValidationError

from langchain_mq9.worker.bodies import Bodies, InputFunction, OutputFunction
from langchain_mq9.worker.interrupts import tool_schemas
from langchain_mq9.worker.people import (
    Policy,
    Questions,
    mailboxes_of,
)
from langchain_mq9.worker.records import Origin, QuestionRecord, WorkerAgent
from langchain_mq9.worker.reports import RunProgress, WorkerCounters, note_node
from langchain_mq9.worker.runs import How, Listener, Run, Runs, has_ended, refuses_answer
from langchain_mq9.worker.turns import Turn, Turns
from mq9 import (
    ClientOptions,
    Consumer,
    ConsumerCounters,
    ErrorAnswer,
    Failure,
    InvalidRequest,
    Message,
    Mq9Client,
    Payload,
    Reject,
    RequestFailed,
    Retry,
    answer_id,
    back_at_work,
    stop_on_signals,
    without_slot,
)
from mq9 import address as addresses
from mq9.client import tracing
from mq9.client.consumer import GivingUp, Handler, HandlingOptions, Option, checked_as, takes
from mq9.clock import wait_for_any
from mq9.operations.conversations import (
    DEFAULT_MAX_HOPS,
    HIGHEST_MAX_HOPS,
    extended,
    message_key,
    message_of_key,
    reason_to_stop,
    thread_id,
)
from mq9.operations.identity import slug
from mq9.operations.presence import Presence
from mq9.protocol import checks, requests
from mq9.questions import InvalidAnswer, mailbox_of

T = TypeVar("T")

logger = logging.getLogger("mq9.worker")

_GROUP_LASTS_S = 29 * 86_400  # a day less than an unused consumer group
_FRAMES_OF_A_REASON = 6  # of the traceback, the innermost ones


class WorkerOptions(HandlingOptions, ClientOptions, total=False):
    """Options of a ``MailboxWorker``; with ``server``, also those of its client.

    Attributes:
        concurrency: Most messages handled at the same time, 1 to 1 000. As many answers to
            questions are handled in addition. Default: 8.
        handler_timeout: Seconds that one run may take; None for any. Default: 600.
        stop_timeout: Seconds that runs have to finish when the worker is stopped; then their
            messages are given back, and go on elsewhere from their last checkpoints. Default: 30.
        dead_letter: The mailbox for messages that cannot be handled, created if it is missing.
            Default: the agent's own with ``.dead`` behind it.
        max_deliveries: After how many deliveries a failing message moves there. Default: 20, which
            are tried within about an hour.
        max_deaths: Number of workers that may die while they handle a message alone. Then it moves
            there. Default: 3. See ``ConsumerOptions``.
        retry_delay: Seconds before the first redelivery of a failed message. Default: 1.
        max_retry_delay: The longest delay, in seconds, up to a day. Default: 300.
        lease_ms: Milliseconds after which another worker goes on if this process dies, 1 000 to
            86 400 000; renewed while the graph runs. Default: 15 000.
        promise_within: Within how many seconds an answer is promised to a message that has
            ``answer_by``; 0 for no promise. Default: ``answer_by`` itself.
        on_event: Receives events about messages; see ``ConsumerOptions``.
    """

    # With defaults of their own.
    concurrency: Annotated[int, Option(8, checks.whole(1, 1_000))]
    handler_timeout: Annotated[
        float | None, Option(600.0, checks.optional(checks.seconds(above_zero=True)))
    ]
    lease_ms: Annotated[  # type: ignore[misc]  # None is no lease of a turn
        int, Option(15_000, checks.whole(1_000, requests.MAX_LEASE_MS))
    ]


class MailboxWorker:
    """Runs a graph once for each message that comes to an agent's mailbox, and answers it.

    Each sender has a thread for each conversation: the header ``conversation`` names it, else the
    mailbox that answers go to. One thread runs one message at a time, in any process of the agent.
    All processes share the checkpointer of the graph: a message whose worker died goes on from its
    last checkpoint, and one whose run had ended is only answered.

    By default a JSON object is the graph's input, and the final state is the answer, as JSON. A
    graph over ``messages`` takes the body as a text, and answers with the text of its last message.
    Bodies that do not fit and messages that fail too often move to the dead-letter mailbox, with
    the reason.

    ::

        async with MailboxWorker(graph, agent="lawyer", capabilities="contracts"):
            ...  # it works until the end of the block

    In a program of its own: ``await worker.arun(signals=True)``, or ``worker.run()`` where no event
    loop runs yet.

    Args:
        graph: A compiled graph with a checkpointer, or another object that runs in threads and
            returns their state, such as a ``RemoteGraph``.
        agent: The agent that it works as.
        server: The broker; see ``Mq9Client``.
        client: A connected client to use instead of one to ``server``; it stays open.
        mail_address: The agent's mailbox, created if it is missing. Default: the slug of its name.
        capabilities: The abilities by which others find the agent: a text, or an AgentCard.
            Without it the agent is not registered.
        registration_ttl: After how many seconds of silence the registration expires, 30 or more.
        input: Makes the graph's input of a ``Message``, perhaps as a coroutine.
        output: Makes the answer of the final state, perhaps as a coroutine; None for no answer.
        human: The people to ask when the graph interrupts itself: a mailbox, the name of an agent,
            or several. The worker mails the question to all, and resumes the run with the first
            answer. It makes missing mailboxes, unless the server authenticates its clients: then
            the people make them. Without ``human``, an interrupt that names nobody has failed.
        escalate_to: Asked, too, when there was no answer for ``escalate_after`` seconds.
        escalate_after: Seconds, 1 or more.
        expires: Seconds after which a question and its run are given up, with an error answer to
            the asker of the run. None for never.
        progress: ``mailbox`` to report to the asker each node that has ended, the values that nodes
            write with a stream writer, and the first failure of a run that will be tried again.
            These messages have a header ``progress``, and no correlation id.
        max_hops: Through how many agents a conversation may have passed, 1 to 63.
        options: How messages are handled, and further arguments of ``Mq9Client`` with ``server``:
            see ``WorkerOptions``.

    Raises:
        InvalidRequest: An argument is invalid.
    """

    @takes(WorkerOptions)
    def __init__(
        self,
        graph: Any,
        *,
        agent: str,
        server: str | None = None,
        client: Mq9Client | None = None,
        mail_address: str | None = None,
        capabilities: str | Mapping[str, Any] | None = None,
        registration_ttl: int = 3_600,
        input: InputFunction | None = None,  # noqa: A002  # what the graph's is called
        output: OutputFunction | None = None,
        human: str | Sequence[str] | None = None,
        escalate_to: str | None = None,
        escalate_after: int | None = None,
        expires: int | None = None,
        progress: Literal["mailbox"] | None = None,
        max_hops: int = DEFAULT_MAX_HOPS,
        **options: Unpack[WorkerOptions],
    ) -> None:
        handling = {
            name: one
            for name, one in checked_as(WorkerOptions, options).items()
            if name not in ClientOptions.__annotations__
        }
        client_options: Any = {name: one for name, one in options.items() if name not in handling}
        if client is not None and (server is not None or client_options):
            raise InvalidRequest("client: it has its server and options; give either")
        if progress not in {None, "mailbox"}:
            raise InvalidRequest(f"progress: {progress!r} is not 'mailbox'")
        self.agent: str = checks.agent_name("agent", agent)
        self.mail_address = slug(agent) if mail_address is None else addresses.parse(mail_address)
        dead_letter = handling.pop("dead_letter")
        self.dead_letter: str = f"{self.mail_address}.dead" if dead_letter is None else dead_letter
        self._owns_dead_letters = dead_letter is None
        self._runs = Runs(graph)
        self._bodies = Bodies(graph, input, output)
        self._handler_timeout: float | None = handling.pop("handler_timeout")
        self._tells_progress = progress is not None
        self._max_hops: int = checks.whole(1, HIGHEST_MAX_HOPS)("max_hops", max_hops)
        concurrency, lease_ms = handling["concurrency"], handling["lease_ms"]
        self._options = {**handling, "num_msgs": concurrency, "error_answers": True}
        self._owns_client = client is None
        self._client = client or Mq9Client(server, **client_options)
        self._slots = asyncio.Semaphore(concurrency)
        self._working_as = WorkerAgent(self._client, self.agent, self.mail_address)
        self._turns = Turns(self._working_as, lease_ms)
        seconds = checks.optional(checks.whole(1, checks.MAX_SECONDS))
        self._questions = Questions(
            self._working_as,
            policy=Policy(
                humans=mailboxes_of(human),
                expires=seconds("expires", expires),
                escalate_to=None if escalate_to is None else mailbox_of(escalate_to),
                escalate_after=seconds("escalate_after", escalate_after),
            ),
            tools=tool_schemas(graph),
            take_turn=self._take_turn,
            resume=self._resume,
            count=self._count,
        )
        self._consumer: Consumer | None = None
        self._answers: Consumer | None = None
        self._presence = (
            None
            if capabilities is None
            else Presence(
                self._client,
                name=self.agent,
                mail_address=self.mail_address,
                capabilities=capabilities,
                ttl=checks.whole(30, checks.MAX_SECONDS)("registration_ttl", registration_ttl),
            )
        )
        self._done: Counter[str] = Counter()

    @property
    def counters(self) -> WorkerCounters:
        """A snapshot of the counters."""
        mail = ConsumerCounters() if self._consumer is None else self._consumer.counters
        return WorkerCounters(mail=mail, **self._done)

    @property
    def is_running(self) -> bool:
        """Whether it takes messages, or still finishes what it took."""
        return self._consumer is not None and self._consumer.is_running

    async def start(self) -> None:
        """Create the mailboxes, register the agent, and begin to take messages.

        Raises:
            InvalidRequest: The worker was started before, an argument is invalid, or the broker
                has no leases.
            Mq9Error: The broker refuses, or cannot be reached.
            Exception: The graph cannot read the state of a thread.
        """
        if self._consumer is not None:
            raise InvalidRequest("worker: it was started before; make another one")
        await self._runs.check()
        if not self._client.is_connected:
            await self._client.open()
        try:
            await self._begin()
        except BaseException:
            await self.stop()
            raise

    async def _begin(self) -> None:
        await self._client.mailbox_create(name=self.mail_address, renew=True)
        if self._owns_dead_letters:
            await self._working_as.make_own_mailbox(self.dead_letter)
        else:  # others may share it
            await self._client.mailbox_create(name=self.dead_letter, renew=True)
        await self._turns.check()
        await self._questions.prepare()
        if self._presence is not None:
            await self._presence.start(lambda: {"in_flight": self.counters.mail.in_flight})
        self._answers = await self._consume(
            self._questions.answers,
            self._questions.handle,
            before_dead_letter=self._questions.give_up,
        )
        self._consumer = await self._consume(self.mail_address, self._handle)
        logger.info("working", extra={"agent": self.agent, "mailbox": self.mail_address})

    async def _consume(
        self, mail_address: str, handler: Handler, *, before_dead_letter: GivingUp | None = None
    ) -> Consumer:
        return await self._client.consume(
            mail_address,
            handler,
            before_dead_letter=before_dead_letter,
            group_name=self.mail_address,
            agent=self.agent,
            dead_letter=self.dead_letter,
            error_handler=self._log_failure,
            **self._options,
        )

    def request_stop(self, timeout: float | None = None) -> None:
        """Take no more messages, and let what runs finish in time; returns at once.

        Args:
            timeout: Seconds that runs are given; ``stop_timeout`` by default.
        """
        for consumer in (self._consumer, self._answers):
            if consumer is not None:
                consumer.request_stop(timeout)

    async def stop(self, timeout: float | None = None) -> None:
        """Stop as ``request_stop`` does, and return when it has ended. May be repeated.

        Args:
            timeout: Seconds that runs are given; ``stop_timeout`` by default.
        """
        self.request_stop(timeout)
        await self._finish()

    async def _finish(self) -> None:
        try:
            for consumer in (self._consumer, self._answers):
                if consumer is not None:
                    await consumer.wait()
        finally:
            if self._presence is not None:
                await self._presence.stop()
            if self._owns_client:
                await self._client.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()
        counters = self.counters
        logger.info(
            "stopped",
            extra={
                "agent": self.agent,
                "processed": counters.mail.processed,
                "interrupted": counters.mail.interrupted,
            },
        )

    async def arun(self, *, signals: bool = False) -> None:
        """Work until it is stopped.

        Args:
            signals: Whether SIGTERM, SIGINT and SIGHUP stop it; the second one ends the process.
                For programs, whose main thread runs the event loop.
        """
        async with self:
            if signals:
                stop_on_signals(self.request_stop)
            await self.wait()

    def run(self) -> None:
        """Work until SIGTERM, SIGINT or SIGHUP; where no event loop runs."""
        asyncio.run(self.arun(signals=True))

    async def wait(self) -> None:
        """Wait until the worker has stopped."""
        if self._consumer is not None:
            await self._consumer.wait()

    async def _handle(self, message: Message) -> None:
        """Run the graph for a message, and answer it."""
        try:
            await self._work_on(message)
        except Reject as rejected:
            logger.warning("rejected: %s", rejected, extra=_fields(message))
            raise

    async def _work_on(self, message: Message) -> None:
        """Wait for the turn of the thread, run the graph, and send the reply or the questions."""
        reason = reason_to_stop(message.path, self.agent, max_hops=self._max_hops)
        if reason is not None:
            raise Reject(reason)
        run = Run(
            thread_id=thread_id(self.agent, message),
            origin=_origin(message),
            is_redelivered=self._may_be_redelivered(message),
        )
        fields = _fields(message) | {"thread_id": run.thread_id}
        logger.debug("waiting for its turn", extra=fields)
        async with self._take_turn(run.thread_id) as turn:
            begun_ms = self._client.clock.monotonic_ms()
            if not await self._is_latest_delivery(message):
                raise Retry("the worker was paused or cut off; the message was delivered again")
            how, state = await self._in_time(self._settle(message, run, turn), run, turn)
            if how is How.WAITING:
                await self._questions.park(message, run.thread_id)
                return
            if not state.interrupts and not has_ended(state):
                stopped = ", ".join(state.next)
                raise Reject(
                    f"the graph stops before {stopped}, as it was compiled to; there a worker asks "
                    "nobody: call interrupt() in a node"
                )
            if state.interrupts:
                await self._questions.ask(run.origin, run.thread_id, state.interrupts)
        self._count(how)
        seconds = (self._client.clock.monotonic_ms() - begun_ms) / 1000
        outcome = "run waits for an answer" if state.interrupts else "run ended"
        logger.info(outcome, extra=fields | {"how": str(how), "seconds": seconds})
        if state.interrupts or message.reply_to is None:
            return
        answer = await self._bodies.answer_of(state.values)
        if answer is not None:
            await message.reply(answer, path=extended(message.path, self.agent))

    def _may_be_redelivered(self, message: Message) -> bool:
        """Return whether a message may have been delivered to this agent before.

        A group unused for a month is forgotten, and gets everything again.
        """
        age_s = self._client.clock.now_ms() / 1000 - message.create_time
        return message.delivery_count > 1 or age_s > _GROUP_LASTS_S

    @contextlib.asynccontextmanager
    async def _take_turn(self, thread_id: str) -> AsyncIterator[Turn]:
        """Wait for the turn of a thread, and for a free place among the concurrent runs."""
        async with contextlib.AsyncExitStack() as stack:
            turn = await stack.enter_async_context(self._turns.take(thread_id))
            with without_slot():
                await stack.enter_async_context(self._slots)
            await back_at_work()
            yield turn

    async def _resume(
        self, record: QuestionRecord, value: Any, turn: Turn, is_repeated: bool
    ) -> tuple[Sequence[Interrupt[Any]], Payload | None] | None:
        origin = record.origin
        run = Run(thread_id=record.thread_id, origin=origin)
        with self._progress(origin) as listener:
            work = self._runs.resume(
                run, turn, record.interrupt_id, value, is_repeated=is_repeated, listener=listener
            )
            try:
                state = await self._in_time(work, run, turn)
            except RequestFailed as error:  # the answer, which stays the same however often it runs
                raise Reject(str(error)) from error
            except Exception as error:
                if isinstance(error, ValidationError) and refuses_answer(error):
                    raise InvalidAnswer(_told(error)) from error
                error.add_note(_where(error))
                raise
        if state is None:
            return None
        is_awaited = not state.interrupts and origin.reply_to is not None
        return state.interrupts, await self._bodies.answer_of(state.values) if is_awaited else None

    def _count(self, what: str) -> None:
        self._done[what] += 1

    async def _settle(self, message: Message, run: Run, turn: Turn) -> tuple[How, StateSnapshot]:
        """Run the graph to its end with `Runs.settle`, and report the progress of the run."""
        with self._progress(run.origin, is_promised=message.answer_by is not None) as listener:
            try:
                return await self._runs.settle(
                    run,
                    turn,
                    lambda: self._bodies.input_of(message),
                    is_to_finish=self._is_outstanding,
                    is_waiting=lambda: self._questions.is_waiting(run.thread_id),
                    listener=listener,
                )
            except (Reject, Retry):
                raise
            except Exception as error:
                error.add_note(_where(error))
                raise

    @contextlib.contextmanager
    def _progress(self, origin: Origin, *, is_promised: bool = False) -> Iterator[Listener | None]:
        """Give the listener that reports the progress of a run, if anybody wants it.

        ``is_promised``: whether the answer is, and so it matters which node has ended last.
        """
        if not self._tells_progress or origin.reply_to is None:
            yield note_node if is_promised else None
            return
        progress = RunProgress(self._working_as, origin, origin.reply_to)
        try:
            yield progress.listen
        finally:
            self._done["progress"] += progress.sent

    async def _is_latest_delivery(self, message: Message) -> bool:
        """Return whether a message is still leased by this delivery, as far as known."""
        status = await self._client.mailbox_status(message.mail_address, msg_id=message.msg_id)
        for one in status.message.groups if status.message is not None else ():
            if one.group_name == self.mail_address and one.state != "delivered":
                holder = (one.state, one.consumer, one.deliveries)
                return holder == ("leased", message.consumer, message.delivery_count)
        return True

    async def _is_outstanding(self, key: str) -> bool:
        """Return whether the message of a key will be delivered to this agent again."""
        known = message_of_key(key)
        if known is None or known[0] != self.mail_address:
            return False
        status = await self._client.mailbox_status(known[0], msg_id=known[1])
        if status.message is None or status.message.state != "stored":
            return False
        standings = {one.group_name: one.state for one in status.message.groups}
        return standings.get(self.mail_address) in {"pending", "leased", "given_back"}

    async def _in_time(self, work: Coroutine[Any, Any, T], run: Run, turn: Turn) -> T:
        """Await a run within its time and its turn, in a span of its own.

        The wait for its turn does not count. When this raises, a cancelled run has ended, so that
        it does not continue during the next turn.
        """
        with tracing.running(self.agent, run.thread_id):
            task = asyncio.create_task(work)
            try:
                await wait_for_any(self._client.clock, self._handler_timeout, task, turn.lost)
                is_in_time = task.done()
            finally:
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])
            if not task.cancelled():
                return task.result()
            if is_in_time:
                raise RuntimeError("the run raised CancelledError()")
            turn.check()
            raise TimeoutError(f"the run took longer than {self._handler_timeout:g} s")

    async def _log_failure(self, message: Message, error: Exception) -> None:
        logger.error("a message failed", exc_info=error, extra=_fields(message))
        is_last = message.delivery_count - message.deaths >= self._options["max_deliveries"]
        if isinstance(error, Reject) or is_last or not self._tells_progress:
            return
        if message.reply_to is not None:
            progress = RunProgress(self._working_as, _origin(message), message.reply_to)
            await progress.tell_failure(_reference(message))
            self._done["progress"] += progress.sent


def _fields(message: Message) -> dict[str, Any]:
    return {
        "mailbox": message.mail_address,
        "msg_id": message.msg_id,
        "sender": message.sender,
        "delivery": message.delivery_count,
        "reference": _reference(message),
    }


def _reference(message: Message) -> str:
    """Return the reference of a message in its error answer and in the log."""
    return ErrorAnswer.of(message, Failure.FAILED, "").reference


def _origin(message: Message) -> Origin:
    return Origin(
        message=message_key(message),
        path=message.path,
        reply_to=message.reply_to,
        correlation_id=message.correlation_id,
        answer_id=answer_id(message),
        conversation=message.conversation,
    )


def _told(error: ValidationError) -> str:
    """Return in one line why the graph refuses an answer."""
    return "; ".join(
        f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"]
        for one in error.errors()
    )


def _where(error: BaseException) -> str:
    """Return the innermost frames of an error, the last one first."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_OF_A_REASON:]
    lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames]
    return "\n".join(reversed(lines))
