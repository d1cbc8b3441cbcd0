"""The base class of a client's methods: its connection, its name, and the ids that it makes."""

from __future__ import annotations

import itertools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import repeat

from mq9 import address as addresses
from mq9.client.connection import BrokerConnection
from mq9.clock import Clock
from mq9.models import FetchResult, Message

_MOST = 10_000  # tokens after which the older half is forgotten
# Mailbox, group, msg_id, and the consumer that fetched it; None for any.
_Fetched = tuple[str, str, int, str | None]


class Batches:
    """Remembers the token under which each message was fetched last, by consumer and by anyone.

    It remembers the last 10 000 tokens at least, and twice as many at most: where the younger half
    is full, it becomes the older one. Usable from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._younger: dict[_Fetched, str] = {}
        self._older: dict[_Fetched, str] = {}

    def remember(
        self, mail_address: str, group_name: str, consumer: str, fetched: FetchResult
    ) -> None:
        """Note the token of a reply for each of its messages."""
        token = fetched.batch
        if token is None:
            return
        numbers = [message.msg_id for message in fetched]
        by_anyone = zip(repeat(mail_address), repeat(group_name), numbers, repeat(None))
        by_consumer = zip(repeat(mail_address), repeat(group_name), numbers, repeat(consumer))
        with self._lock:
            if len(self._younger) >= _MOST:
                self._older, self._younger = self._younger, {}
            self._younger.update(dict.fromkeys(by_anyone, token))
            self._younger.update(dict.fromkeys(by_consumer, token))

    def token(
        self, mail_address: str, group_name: str, msg_id: int, consumer: str | None
    ) -> str | None:
        """Return the token of the latest reply that held the message, if it is remembered."""
        key = (mail_address, group_name, msg_id, consumer)
        with self._lock:
            return self._younger.get(key) or self._older.get(key)

    def forget(self, mail_address: str) -> None:
        """Forget a mailbox that was removed or created again."""
        with self._lock:
            for half in (self._younger, self._older):
                for key in [key for key in half if key[0] == mail_address]:
                    del half[key]


class RequestIds:
    """Makes ids that no other client makes, in a forked child neither.

    Each is a random beginning and a number: 24 hexadecimal digits. A reader of one can tell the
    next, so they are for the broker alone. Being random throughout would cost each a system call,
    at which a thread that writes may take the interpreter.
    """

    def __init__(self, randomness: Callable[[int], bytes]) -> None:
        self._randomness = randomness
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._beginning = self._randomness(8).hex()
        self._numbers = itertools.count()

    def next(self) -> str:
        """Return another id."""
        if self._process != os.getpid():
            self._begin()
        return f"{self._beginning}{next(self._numbers):08x}"


class ClientBase(ABC):
    """A consumer's name and its connection to a broker.

    Args:
        consumer: The consumer that requests are made for, unless they name another.
        connection: Makes the requests.
        randomness: Returns that many unpredictable bytes.

    Attributes:
        consumer: The consumer that requests are made for, unless they name another.
    """

    def __init__(
        self, consumer: str, connection: BrokerConnection, randomness: Callable[[int], bytes]
    ) -> None:
        self.consumer = consumer
        self._connection = connection
        self._randomness = randomness
        self._request_ids = RequestIds(randomness)
        self._batches = Batches()

    @property
    def clock(self) -> Clock:
        """The clock that this client and its consumers go by."""
        return self._connection.clock

    def new_id(self) -> str:
        """Return an id that no other has, and nobody can guess: 24 hexadecimal digits."""
        return self._randomness(12).hex()

    def new_address(self, prefix: str | None = None) -> str:
        """Return a mail_address that nobody can guess, of a mailbox that is still to be created.

        Args:
            prefix: What it starts with, before a dot.

        Raises:
            InvalidAddress: The prefix is not the beginning of an address.
        """
        return addresses.generate(self._randomness(addresses.RANDOM_BYTES), prefix)

    @abstractmethod
    def _bind(self, messages: Iterable[Message]) -> None:
        """Let messages remember the client, which has the methods of every subject."""
