"""The result of ``Mailbox.receive``: a thread that calls back until it is stopped."""

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
    """Receives the messages of one mailbox until it is stopped; made by ``Mailbox.receive``.

    With a callback it calls that on one thread of its own, a message at a time, and the program
    does not end before it has been stopped: by ``stop``, by ``Mailbox.close``, or by Ctrl-C.
    Without one, iterate over it to get the messages; the iteration ends when it is stopped.

    It ends with an error when the mailbox expires or is removed, and when this client may no longer
    read it. While no broker answers it tries again. All methods may be called from any thread.

    Args:
        client: The client to receive with.
        mail_address: The mailbox.
        source: Where the messages come from.
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
        """Return the next message, as soon as there is one."""
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
        """Whether messages may still come, or one is being handled."""
        return self._process == os.getpid() and not self._ended.done()

    def call_back(self, callback: MessageCallback) -> None:
        """Give each message to a callback, on a thread that begins here.

        Args:
            callback: Function that takes a message. It can be set once.
        """
        work = self._client.clock.busy()
        self._thread = threading.Thread(
            target=work.run,
            args=(self._run, callback, work),
            name="mq9-receive",
            daemon=True,  # the program waits for it all the same; see until_done
        )
        until_done.keep_alive(self)
        self._thread.start()

    def request_stop(self, timeout: float = STOP_TIMEOUT_S) -> None:
        """Receive no more; returns at once.

        Args:
            timeout: Seconds that a callback of a group is given to end; after that its message goes
                to another member at once, although a callback cannot be interrupted.

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
        """Stop as ``request_stop`` does, and return when it has ended. May be repeated.

        A callback that calls this is not waited for: it would wait for itself.

        Args:
            timeout: Seconds to wait for a callback that has not returned.

        Raises:
            InvalidRequest: ``timeout`` is not a number of seconds.
        """
        self.request_stop(timeout)
        if self._thread is not threading.current_thread() and self.is_running:
            self._wait(timeout)
            self._ask(self._source.ended())

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, and raise the error that it ended with.

        Args:
            timeout: Seconds to wait; without it for as long as it takes.

        Returns:
            Whether it has ended.

        Raises:
            MailboxNotFound: It ended because the mailbox expired or was removed.
            Forbidden: It ended because the mailbox may no longer be read.
        """
        self._wait(None if timeout is None else checks.seconds()("timeout", timeout))
        if not self._ended.done():
            return False
        self._ended.result()
        return True

    def wait(self, seconds: float) -> None:
        """Return when it has ended, with or without an error, or after some time.

        Args:
            seconds: Longest wait in seconds.
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
        except NotConnected:  # it was closed, which ends everything
            work.close()

    def _next(self) -> SyncMessage | None:
        """Return the next message; None when there is none because it was stopped."""
        if self._stopping:
            self._page.clear()
        if not self._page:
            failure, self._failure = self._failure, None
            try:
                page = self._client.run(lambda _: self._source.next_page(failure))
            except NotConnected:  # it was closed
                return None
            self._page.extend(page)
        return self._page.popleft() if self._page else None

    def _run(self, callback: MessageCallback, work: activity.Work) -> None:
        """Call back until it is stopped; the thread's function."""
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
        with suppress(InvalidStateError):  # it had ended
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)


def _call(callback: MessageCallback, message: SyncMessage) -> Exception | None:
    """Call back, and return what was raised."""
    try:
        callback(message)
    except Exception as error:  # noqa: BLE001  # it may raise anything
        return error
    except BaseException as error:  # noqa: BLE001  # sys.exit(), on a thread that it must not end
        failure = RuntimeError(f"the callback raised {error!r}")
        failure.__cause__ = error
        return failure
    return None
