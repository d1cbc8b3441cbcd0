"""The base class of a client's methods: its connection, its name, and its ids."""

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
# Mailbox, group, msg_id, and the consumer that fetched it. None for any.
_Fetched = tuple[str, str, int, str | None]


class Batches:
    """The token of the latest fetch of each message, by one consumer and by any.

    It remembers the last 10 000 to 20 000 tokens: when the younger half is full, it becomes the
    older half. Usable from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._younger: dict[_Fetched, str] = {}
        self._older: dict[_Fetched, str] = {}

    def remember(
        self, mail_address: str, group_name: str, consumer: str, fetched: FetchResult
    ) -> None:
        """Remember the token of a reply for each of its messages."""
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
        """Return the token of the latest reply with the message, if it is remembered."""
        key = (mail_address, group_name, msg_id, consumer)
        with self._lock:
            return self._younger.get(key) or self._older.get(key)

    def forget(self, mail_address: str) -> None:
        """Forget the tokens of a mailbox that was removed or created again."""
        with self._lock:
            for half in (self._younger, self._older):
                for key in [key for key in half if key[0] == mail_address]:
                    del half[key]


class RequestIds:
    """Generates ids that are unique among all clients, including those in forked children.

    Each id is a random prefix and a number, 24 hexadecimal digits together. One id reveals the
    next, so only the broker may see them. A fully random id would cost a system call, at which a
    writing thread may take the interpreter.
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
        consumer: The consumer of requests that name no other.
        connection: Makes the requests.
        randomness: Function that returns a given number of unpredictable bytes.

    Attributes:
        consumer: The consumer of requests that name no other.
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
        """The clock of this client and its consumers."""
        return self._connection.clock

    def new_id(self) -> str:
        """Return a unique, unguessable id of 24 hexadecimal digits."""
        return self._randomness(12).hex()

    def new_address(self, prefix: str | None = None) -> str:
        """Return an unguessable mail_address, for a mailbox that you create later.

        Args:
            prefix: The first part of the address, before a dot. Default: none.

        Raises:
            InvalidAddress: The prefix is not a valid start of an address.
        """
        return addresses.generate(self._randomness(addresses.RANDOM_BYTES), prefix)

    @abstractmethod
    def _bind(self, messages: Iterable[Message]) -> None:
        """Attach messages to the full client, for their own methods."""
