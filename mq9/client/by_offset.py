"""Progress of a consumer whose group is one offset (see docs/how-to/robustmq.md)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TypeAlias

from mq9.models import FetchResult, Message, StoredMessage
from mq9.protocol import robustmq

MOST_FETCHED = 1_000  # the protocol's limit of num_msgs
_MOST_REMEMBERED = 10_000

# A recreated mailbox uses the same ids again, so an id alone is not enough.
_Key: TypeAlias = tuple[int, int, bytes]


@dataclass(slots=True)
class _State:
    """The state of a message."""

    deliveries: int = 0
    due_ms: int = 0
    done: bool = False


class OffsetProgress:
    """Tracks which messages are handled, for a broker that redelivers them all."""

    def __init__(self, num_msgs: int) -> None:
        self._usual = num_msgs
        self._states: OrderedDict[_Key, _State] = OrderedDict()
        self.num_msgs = num_msgs

    def __len__(self) -> int:
        """Return the number of remembered messages."""
        return len(self._states)

    def due(self, fetched: FetchResult, now_ms: int) -> list[Message]:
        """Return the messages of a reply that need handling now.

        Their ``delivery_count`` is the number of times they were handled here, including this time.
        """
        due = []
        for message in fetched:
            state = self._states.setdefault(_key(message), _State())
            if not state.done and state.due_ms <= now_ms:
                due.append(replace(message, delivery_count=state.deliveries + 1))
        while len(self._states) > max(_MOST_REMEMBERED, len(fetched)):
            self._states.popitem(last=False)
        return due

    def next_due_ms(self, fetched: FetchResult) -> int | None:
        """Return when the first waiting message of a reply is due. None if none waits."""
        states = (self._states.get(_key(message), _State()) for message in fetched)
        return min((state.due_ms for state in states if not state.done), default=None)

    def done(self, message: StoredMessage) -> None:
        """Mark a message as handled."""
        self._state_of(message).done = True

    def failed(self, message: StoredMessage, due_ms: int) -> None:
        """Schedule a message for another attempt at an instant."""
        state = self._state_of(message)
        state.deliveries = message.delivery_count
        state.due_ms = due_ms

    def confirmed(self, fetched: FetchResult, asked: int) -> int | None:
        """Return the last id of a reply that may be acked. None if none may.

        All messages up to that id are handled. This also sets how many messages to fetch next. The
        number grows while a reply is too short to ack all handled messages.
        """
        known = robustmq.last_known(fetched, asked)
        last = None
        unhandled = False
        for message in sorted(fetched, key=lambda one: one.msg_id):
            unhandled = unhandled or not self._state_of(message).done
            if known is not None and message.msg_id <= known and not unhandled:
                last = message.msg_id
        is_full = len(fetched) >= asked
        if not is_full:
            self._keep_only(fetched)
        if all(last is not None and message.msg_id <= last for message in fetched):
            self.num_msgs = self._usual
        elif is_full:
            self.num_msgs = min(asked * 2, MOST_FETCHED)
        return last

    def _keep_only(self, fetched: FetchResult) -> None:
        """Forget messages that are acked or expired. The broker will not deliver them again."""
        there = {_key(message) for message in fetched}
        for key in self._states.keys() - there:
            del self._states[key]

    def _state_of(self, message: StoredMessage) -> _State:
        return self._states.setdefault(_key(message), _State())


def _key(message: StoredMessage) -> _Key:
    digest = hashlib.blake2b(message.payload, digest_size=16).digest()
    return message.msg_id, message.create_time, digest
