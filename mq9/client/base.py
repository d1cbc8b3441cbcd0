"""The base class of a client's methods: its connection, its name, and the ids that it makes."""

from __future__ import annotations

import itertools
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable

from mq9 import address as addresses
from mq9.client.connection import BrokerConnection
from mq9.clock import Clock
from mq9.models import FetchResult, Message

_MOST = 10_000  # tokens that are remembered


class Batches:
    """Remembers the token under which each message was fetched last, by consumer and by anyone.

    Usable from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: OrderedDict[tuple[str, str, int, str | None], str] = OrderedDict()

    def remember(
        self, mail_address: str, group_name: str, consumer: str, fetched: FetchResult
    ) -> None:
        """Note the token of a reply for each of its messages."""
        if fetched.batch is None:
            return
        with self._lock:
            for message in fetched:
                for who in (consumer, None):
                    key = (mail_address, group_name, message.msg_id, who)
                    self._tokens[key] = fetched.batch
                    self._tokens.move_to_end(key)
            while len(self._tokens) > _MOST:
                self._tokens.popitem(last=False)

    def token(
        self, mail_address: str, group_name: str, msg_id: int, consumer: str | None
    ) -> str | None:
        """Return the token of the latest reply that held the message, if it is remembered."""
        return self._tokens.get((mail_address, group_name, msg_id, consumer))

    def forget(self, mail_address: str) -> None:
        """Forget a mailbox that was removed or created anew."""
        with self._lock:
            for key in [key for key in self._tokens if key[0] == mail_address]:
                del self._tokens[key]


class RequestIds:
    """Makes ids that no other client makes, in a forked child neither.

    Each is a random beginning and a number: 24 hexadecimal digits. Whoever knows one can tell the
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
