"""The result of ``Mailbox.receive``: a thread that calls a callback until you stop it."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Self, TypeAlias

from mq9.client.receiving import MessageSource
from mq9.client.sync_client import SyncMq9Client
from mq9.client.sync_messages import SyncMessage
from mq9.concurrency import activity, until_done
from mq9.errors import InvalidRequest, Mq9Error, NotConnected
from mq9.protocol import checks

_logger = logging.getLogger("mq9.mailbox")

STOP_TIMEOUT_S = 30.0

MessageCallback: TypeAlias = Callable[[SyncMessage], object]


class Receiver(Iterator[SyncMessage]):
    """Receives the messages of one mailbox until you stop it. ``Mailbox.receive`` creates it.

    With a callback, it calls the callback on a thread of its own, one message at a time. The
    program does not exit before you stop it with ``stop``, ``Mailbox.close`` or Ctrl-C. Without a
    callback, iterate over it to get the messages. The iteration ends when you stop it.

    It ends with an error if the mailbox expires or is removed, or if this client may no longer read
    it. While no broker answers, it tries again. You may call all methods from any thread.

    Args:
        client: The client to receive with.
        mail_address: The mailbox.
        source: The source of the messages.
    """

    def __init__(self, client: SyncMq9Client, mail_address: str, source: MessageSource) -> None:
        self._client = client
        self._address = mail_address
        self._source = source
        self._page: deque[SyncMessage] = deque()
        self._failure: Exception | None = None  # of the latest call
        self._stopping = False
        self._ended: Future[None] = Future()
        self._process = os.getpid()
        client.run(lambda inner: source.start(inner, mail_address))
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<Receiver of {self._address}, {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_exception: object) -> None:
        self.stop()
        if kind is None:
            self.join(0)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SyncMessage:
        """Return the next message. Wait if there is none."""
        if self._thread is not None:
            raise InvalidRequest(f"callback: the messages of {self._address} go to one")
        try:
            message = self._next()
        except Mq9Error as error:
            self._end(error)
            raise
        if message is None:
            self._end(None)
            raise StopIteration
        return message

    @property
    def is_running(self) -> bool:
        """Whether messages can still arrive, or the callback still runs."""
        return self._process == os.getpid() and not self._ended.done()

    def call_back(self, callback: MessageCallback) -> None:
        """Call a callback with each message, on a new thread.

        Args:
            callback: Function that takes a message. You can set it once.
        """
        work = self._client.clock.busy()
        self._thread = threading.Thread(
            target=work.run,
            args=(self._run, callback, work),
            name="mq9-receive",
            daemon=True,  # until_done keeps the program alive
        )
        until_done.keep_alive(self)
        self._thread.start()

    def request_stop(self, timeout: float = STOP_TIMEOUT_S) -> None:
        """Stop receiving. This returns at once.

        Args:
            timeout: Seconds until the message of a running callback of a group goes to another
                member. The callback itself keeps running. Default: 30.

        Raises:
            InvalidRequest: ``timeout`` is not a number of seconds.
        """
        seconds = checks.seconds()("timeout", timeout)
        self._stopping = True
        if self.is_running:
            self._ask(self._source.stop(seconds))
        if self._thread is None:
            self._end(None)

    def stop(self, timeout: float = STOP_TIMEOUT_S) -> None:
        """Stop as ``request_stop`` does, and wait for the end. You may call this again.

        If the callback itself calls this, it returns without waiting.

        Args:
            timeout: Seconds to wait for a running callback. Default: 30.

        Raises:
            InvalidRequest: ``timeout`` is not a number of seconds.
        """
        self.request_stop(timeout)
        if self._thread is not threading.current_thread() and self.is_running:
            self._wait(timeout)
            self._ask(self._source.ended())

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, and raise its error.

        Args:
            timeout: Seconds to wait. Default: no limit.

        Returns:
            Whether it has ended.

        Raises:
            MailboxNotFound: It ended because the mailbox expired or was removed.
            Forbidden: It ended because this client may no longer read the mailbox.
        """
        self._wait(None if timeout is None else checks.seconds()("timeout", timeout))
        if not self._ended.done():
            return False
        self._ended.result()
        return True

    def wait(self, seconds: float) -> None:
        """Wait for the end, with or without an error.

        Args:
            seconds: Maximum wait in seconds.
        """
        self._wait(seconds)

    def _wait(self, seconds: float | None) -> None:
        if self._process != os.getpid():
            raise NotConnected("the receiver runs in the process that was forked, not in the child")
        with activity.blocking(self._ended), suppress(TimeoutError):
            self._ended.exception(seconds)

    def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            self._client.run(lambda _: work)
        except NotConnected:  # the client was closed, which ends everything
            work.close()

    def _next(self) -> SyncMessage | None:
        """Return the next message. None after a stop."""
        if self._stopping:
            self._page.clear()
        if not self._page:
            failure, self._failure = self._failure, None
            try:
                page = self._client.run(lambda _: self._source.next_page(failure))
            except NotConnected:  # the client was closed
                return None
            self._page.extend(page)
        return self._page.popleft() if self._page else None

    def _run(self, callback: MessageCallback, work: activity.Work) -> None:
        """Call the callback until the receiver stops. The thread runs this."""
        error: Exception | None = None
        try:
            while (message := self._next()) is not None:
                self._failure = _call(callback, message)
                if self._failure is not None and not self._source.logs_failures:
                    _logger.error(
                        "the callback failed on message %d of %s",
                        message.msg_id,
                        self._address,
                        exc_info=self._failure,
                    )
        except Exception as raised:
            _logger.exception("no more is received from %s", self._address)
            error = raised
        finally:
            work.end()
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        until_done.let_go(self)
        with suppress(InvalidStateError):  # it has ended before
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)


def _call(callback: MessageCallback, message: SyncMessage) -> Exception | None:
    """Call the callback, and return its exception."""
    try:
        callback(message)
    except Exception as error:  # noqa: BLE001  # a callback may raise anything
        return error
    except BaseException as error:  # noqa: BLE001  # sys.exit() must not end this thread
        failure = RuntimeError(f"the callback raised {error!r}")
        failure.__cause__ = error
        return failure
    return None
