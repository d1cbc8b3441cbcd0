"""What the methods of a client share: its connection, its name, and the ids that it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from mq9 import address as addresses
from mq9.client.batches import Batches
from mq9.client.connection import Connection
from mq9.client.request_ids import RequestIds
from mq9.clock import Clock
from mq9.models import Message


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
        self, consumer: str, connection: Connection, randomness: Callable[[int], bytes]
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
