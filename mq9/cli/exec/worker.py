"""Takes the messages of an agent, and does with each what follows from how its command ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mq9.cli.exec.environment import variables
from mq9.cli.exec.presets import MOST_OUTPUT, Preset
from mq9.cli.exec.process import Ended, GuardedCommand
from mq9.cli.exec.senders import Senders
from mq9.cli.exec.sessions import Session, Sessions, is_session_id
from mq9.cli.exec.template import Template
from mq9.client.client import Mq9Client
from mq9.client.consumer import Consumer, ConsumerCounters, Reject, Retry, without_slot
from mq9.client.consumer import back_at_work as enter_again
from mq9.errors import Mq9Error
from mq9.models import Message
from mq9.operations.conversations import extended, reason_to_stop, thread_id
from mq9.operations.identity import slug
from mq9.operations.presence import Presence, make_own_mailbox
from mq9.protocol import checks

logger = logging.getLogger("mq9.exec")

REJECTED = 65  # the exit code of a command that will never succeed, as in sysexits.h
GRACE_S = 5.0  # between SIGTERM and SIGKILL
_UNTIL_ABANDONED_S = 15.0  # after the time of commands is up; the guards need their grace
_NO_SESSION_FROM = 3  # the try of a message from which its conversation begins a new session
_MOST_LOGGED = 1_000  # characters of each output
_REGISTERED_S = 3_600
_DAY_S = 86_400.0
_SHORTEST_CHECK_S = 0.3


class CommandFailed(Exception):
    """A command has failed, and is run again later."""


class _Unfinished(Exception):
    """The program was stopped before the command had ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOptions:
    """Options for taking messages and running commands.

    Attributes:
        agent: The agent that the commands work as.
        mail_address: Its mailbox; None for the slug of its name.
        server: The URL of the broker.
        is_private: Whether only programs of this user reach the broker.
        template: The command.
        preset: The host that the command is; None for any other program.
        senders: Who may have it run; see ``Senders``.
        capabilities: What the agent is registered with; None for no registration.
        state: The directory of the sessions.
        session: The session that all messages go on with; None for one in each conversation.
        concurrency: Highest number of commands that run at the same time.
        timeout: Seconds that a command may take.
        stop_timeout: Seconds that commands have to end when the program is stopped.
        max_output: Bytes of the output to keep as the answer.
        max_messages: After how many commands to stop; None for no end.
        lease: Seconds of a lease.
        dead_letter: The mailbox of dead letters; None for one of the agent's own.
        handling: Further options of the consumer.
    """

    agent: str
    mail_address: str | None
    server: str
    is_private: bool
    template: Template
    preset: Preset | None
    senders: Sequence[str]
    capabilities: str | Mapping[str, Any] | None
    state: Path
    session: str | None
    concurrency: int
    timeout: float
    stop_timeout: float
    max_output: int
    max_messages: int | None
    lease: float
    dead_letter: str | None
    handling: Mapping[str, Any]


class CommandWorker:
    """Runs a command for each message of an agent, and answers with its output.

    Args:
        client: A connected client.
        options: How.
    """

    def __init__(self, client: Mq9Client, options: ExecOptions) -> None:
        self._client = client
        self._options = options
        self.agent: str = checks.agent_name("agent", options.agent)
        self.mail_address: str = (
            slug(self.agent)
            if options.mail_address is None
            else checks.mail_address("mail_address", options.mail_address)
        )
        self._senders = Senders(client, self.agent, options.senders)
        self._sessions = (
            Sessions(options.state, f"{options.server} {self.mail_address} {self.agent}")
            if options.template.has_sessions
            else None
        )
        self._slots = asyncio.Semaphore(options.concurrency)
        self._consumer: Consumer | None = None
        self._is_stopping = False
        self._time_is_up = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._begun = 0

    @property
    def counters(self) -> ConsumerCounters:
        """Counts of the messages by outcome."""
        return ConsumerCounters() if self._consumer is None else self._consumer.counters

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Make the mailboxes, register the agent, and take messages while inside."""
        options, client = self._options, self._client
        await self._senders.prepare(is_private=options.is_private)
        if self._sessions is not None:
            self._sessions.prepare()
        await client.mailbox_create(name=self.mail_address, renew=True)
        dead_letter = options.dead_letter
        if dead_letter is None:
            dead_letter = f"{self.mail_address}.dead"
            await make_own_mailbox(client, dead_letter)
        else:  # others may share it
            await client.mailbox_create(name=dead_letter, renew=True)
        async with contextlib.AsyncExitStack() as stack:
            if options.capabilities is not None:
                presence = Presence(
                    client,
                    name=self.agent,
                    mail_address=self.mail_address,
                    capabilities=options.capabilities,
                    ttl=_REGISTERED_S,
                )
                stack.push_async_callback(presence.stop)
                await presence.start(lambda: {"in_flight": self.counters.in_flight})
            self._consumer = await client.consume(
                self.mail_address,
                self._handle,
                group_name=self.mail_address,
                agent=self.agent,
                dead_letter=dead_letter,
                error_handler=_log_failure,
                error_answers=True,
                concurrency=options.concurrency,
                num_msgs=options.concurrency,
                lease_ms=round(options.lease * 1000),
                stop_timeout=_DAY_S,
                **options.handling,
            )
            stack.push_async_callback(self._finish)
            yield

    def request_stop(self) -> None:
        """Take no more messages, and give commands ``stop_timeout``; returns at once."""
        if self._timer is None:
            seconds = self._options.stop_timeout
            self._timer = asyncio.get_running_loop().call_later(seconds, self._time_is_up.set)
            self._take_no_more(seconds + GRACE_S + _UNTIL_ABANDONED_S)

    async def wait(self) -> None:
        """Return when it has been stopped, and no command runs."""
        if self._consumer is not None:
            await self._consumer.wait()

    async def _finish(self) -> None:
        self.request_stop()
        await self.wait()
        if self._timer is not None:
            self._timer.cancel()

    def _take_no_more(self, seconds: float) -> None:
        self._is_stopping = True
        if self._consumer is not None:
            self._consumer.request_stop(seconds)

    async def _handle(self, message: Message) -> None:
        """Run the command for a message, and answer it."""
        reason = reason_to_stop(message.path, self.agent) or await self._senders.why_not(message)
        if reason is not None:
            logger.warning("refused: %s", reason, extra=_fields(message))
            raise Reject(reason)
        try:
            async with self._turn(message) as session:
                await self._run(message, session)
        except _Unfinished:
            await message.nack()

    @contextlib.asynccontextmanager
    async def _turn(self, message: Message) -> AsyncIterator[Session | None]:
        """Wait until the conversation of a message and a slot are free."""
        async with contextlib.AsyncExitStack() as stack:
            session = None
            with without_slot():
                if self._sessions is not None:
                    first = self._options.session
                    name = thread_id(self.agent, message) if first is None else f"of-{first}"
                    turn = self._sessions.turn(name, first)
                    session = await stack.enter_async_context(turn)
                await stack.enter_async_context(self._slots)
            await enter_again()
            if self._is_stopping:
                raise _Unfinished
            self._begun += 1
            if self._begun == self._options.max_messages:
                self._take_no_more(_DAY_S)
            yield session

    async def _run(self, message: Message, session: Session | None) -> None:
        """Run the command of a message to its end, and answer the message."""
        options = self._options
        earlier = None
        tries = message.delivery_count - message.deaths
        if session is not None and (options.session is not None or tries < _NO_SESSION_FROM):
            earlier = session.id
        asked = time.monotonic()
        if (await message.extend(lease=options.lease)).lost:
            raise Retry("the lease was lost before the command was run")
        with _directory(options.template.reads_file or session is not None) as directory:
            file = None if directory is None else directory / "body"
            session_file = None if session is None or directory is None else directory / "session"
            if options.template.reads_file and file is not None:
                file.touch(0o600)
                file.write_bytes(message.payload)
            command = await GuardedCommand.start(
                options.template.arguments(file=file, session=earlier),
                environment=variables(
                    message,
                    agent=self.agent,
                    server=options.server,
                    conversation=thread_id(self.agent, message),
                    session_file=session_file,
                ),
                stdin=b"" if options.template.reads_file else message.payload,
                held_until=asked + options.lease,
                grace=GRACE_S,
                max_output=options.max_output if options.preset is None else MOST_OUTPUT,
                directory=directory,
                kept_open=() if session is None else (session.descriptor,),
            )
            try:
                ended, error = await self._end_of(message, command)
            finally:
                command.close()
            _log_end(message, ended, error)
            if error is not None:
                raise error
            found, answer = _answer(ended, options.preset)
            if session is not None:
                if session_file is not None and session_file.exists():
                    found = session_file.read_text("utf-8", "replace").strip()
                if found is not None and is_session_id(found):
                    session.store(found)
        if message.reply_to is not None:
            await self._reply(message, answer, ended)

    async def _end_of(
        self, message: Message, command: GuardedCommand
    ) -> tuple[Ended, Exception | None]:
        """Wait for the end of a command; return it, and why the message is not done with it."""
        ending = asyncio.create_task(command.ended())
        lost = asyncio.create_task(self._until_lost(message, command))
        stopped = asyncio.create_task(self._time_is_up.wait())
        error: Exception | None = None
        try:
            done, _ = await asyncio.wait(
                [ending, lost, stopped],
                timeout=self._options.timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if ending not in done:
                command.end()
                if lost in done:
                    error = Retry("the lease was lost while the command ran")
                elif stopped in done:
                    error = _Unfinished()
                else:
                    seconds = self._options.timeout
                    error = CommandFailed(f"the command took longer than {seconds:g} s")
            ended = await ending
        finally:
            for task in (ending, lost, stopped):
                task.cancel()
        if error is None and ended.is_lease_over:
            error = Retry("the lease was over while the command ran")
        return ended, error or _error_of(ended)

    async def _until_lost(self, message: Message, command: GuardedCommand) -> None:
        """Renew the lease for the guard of a command; return when it is lost."""
        lease = self._options.lease
        while True:
            await asyncio.sleep(lease / 3)
            asked = time.monotonic()
            try:
                async with asyncio.timeout(max(lease / 3, _SHORTEST_CHECK_S)):
                    renewed = await message.extend(lease=lease)
            except (Mq9Error, TimeoutError) as error:
                logger.debug("not renewed: %s", error, extra=_fields(message))
                continue
            if renewed.lost:
                return
            command.hold_until(asked + lease)

    async def _reply(self, message: Message, answer: bytes, ended: Ended) -> None:
        size = max(ended.output_bytes, len(answer)) if self._options.preset is None else len(answer)
        kept = answer[: self._options.max_output]
        headers = {"truncated": str(size)} if size > len(kept) else None
        await message.reply(kept, path=extended(message.path, self.agent), headers=headers)


@contextlib.contextmanager
def _directory(is_needed: bool) -> Iterator[Path | None]:  # there is nothing else
    """Make a directory for the files of one run, if it needs any."""
    if not is_needed:
        yield None
        return
    directory = Path(tempfile.mkdtemp(prefix="mq9-exec-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _error_of(ended: Ended) -> Exception | None:
    """Return the error that an exit code stands for; None of 0."""
    if ended.code == 0:
        return None
    if ended.code == REJECTED:
        said = _text(ended.output).strip()
        return Reject(said[:_MOST_LOGGED] or "rejected by the command")
    said = _text(ended.errors).strip()[-_MOST_LOGGED:]
    return CommandFailed(f"{ended.how}: {said}" if said else ended.how)


def _answer(ended: Ended, preset: Preset | None) -> tuple[str | None, bytes]:
    """Return the session and the answer in the output of a command."""
    if preset is None:
        return None, ended.output
    session, answer = preset.read(ended.output)
    if answer is None:
        raise CommandFailed("its output has no answer that this version reads")
    return session, answer.encode()


def _log_end(message: Message, ended: Ended, error: Exception | None) -> None:
    logger.log(
        logging.INFO if error is None else logging.WARNING,
        "command ended" if error is None else f"command ended: {str(error) or 'stopped'}",
        extra=_fields(message)
        | {
            "how": ended.how,
            "seconds": round(ended.seconds, 3),
            "output_bytes": ended.output_bytes,
            "output": _text(ended.output[:_MOST_LOGGED]) or None,
            "errors": _text(ended.errors)[-_MOST_LOGGED:] or None,
        },
    )


async def _log_failure(message: Message, error: Exception) -> None:
    """Log what the log of the command's end does not say."""
    if not isinstance(error, CommandFailed | Reject):
        logger.error("a message failed", exc_info=error, extra=_fields(message))


def _fields(message: Message) -> dict[str, Any]:
    return {
        "mailbox": message.mail_address,
        "msg_id": message.msg_id,
        "sender": message.sender,
        "delivery": message.delivery_count,
    }


def _text(output: bytes) -> str:
    return output.decode("utf-8", "backslashreplace")
