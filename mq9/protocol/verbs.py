"""The verb table: every verb of the protocol, declared once.

The subject of a request is ``$mq9.AI.<verb>``, followed by a mail_address where the verb concerns a
mailbox, and by a message id after that where it concerns one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from mq9.errors import Mq9Error
from mq9.protocol import replies, requests
from mq9.protocol.body import Body, Named
from mq9.protocol.headers import RequestHeaders


class Target(Enum):
    """What a verb concerns, and so what its subject names."""

    BROKER = 0
    MAILBOX = 1
    MESSAGE = 2
    PRIORITY = 3  # of older generations: a mailbox, and perhaps the priority of what is sent there


class Wakes(Enum):
    """Who, of those that wait for mail, looks again when a request was carried out."""

    NOBODY = 0
    ITS_GROUPS = 1  # there may be something to lease in the mailbox
    EVERYBODY = 2  # who waits for that address: it is another mailbox now
    GROUPS_ELSEWHERE = 3  # there may be something to lease in the other mailbox that it names


@dataclass(frozen=True, slots=True)
class Verb:
    """What is to be known of a verb beside what its request says itself.

    Attributes:
        name: As in the subject.
        request: What travels.
        target: What it concerns.
        reply: Writes the outcome as the fields of the reply.
        outcome: Reads the outcome from the fields of the reply.
        reads: Whether it changes nothing.
        repeatable: Whether it may be made again when its reply was lost; where that depends on
            the request, a function of it.
        wakes: Who looks again for mail.
        decode: Reads the request from its payload, its headers and what its subject names, where
            that differs from how ``request`` travels in the current generation.
        claims: Of several verbs with one name, tells by the payload which is meant.
        success: Makes the reply of these fields.
        failure: Writes the reply to a request that was refused.
    """

    name: str
    request: type[Body[Any]]
    target: Target
    reply: Callable[..., dict[str, Any]] = replies.nothing
    outcome: Callable[[dict[str, Any]], Any] = replies.decode_nothing
    reads: bool = False
    repeatable: bool | Callable[[Any], bool] = False
    wakes: Wakes = Wakes.NOBODY
    decode: Callable[[bytes, RequestHeaders, Named], Body[Any]] | None = None
    claims: Callable[[bytes], bool] | None = None
    success: Callable[[dict[str, Any]], dict[str, Any]] = replies.success
    failure: Callable[[Mq9Error], dict[str, Any]] = replies.failure

    def read(self, payload: bytes, headers: RequestHeaders, named: Named) -> Body[Any]:
        """Read a request of the verb.

        Args:
            payload: The JSON, or what a message carries.
            headers: What travelled beside it.
            named: What the subject names.

        Raises:
            InvalidRequest: Some of it is wrong.
        """
        if self.decode is not None:
            return self.decode(payload, headers, named)
        return self.request.read(payload, headers, named.msg_id)

    def may_repeat(self, request: Body[Any]) -> bool:
        """Tell whether a request of the verb may be made again when its reply was lost."""
        return self.repeatable(request) if callable(self.repeatable) else self.repeatable


# Verbs of older generations, by name; a subject means the first of its name that claims it.
OlderVerbs = Mapping[str, tuple[Verb, ...]]
NO_OLDER_VERBS: Final[OlderVerbs] = {}


def _finds_what_it_made(request: requests.CreateMailbox) -> bool:
    return request.renew and request.name is not None


def _is_stored_once(request: requests.Send) -> bool:
    return request.id is not None


def _gives_the_same_again(request: requests.Fetch) -> bool:
    return request.group_name is None or request.request_id is not None


_BROKER, _MAILBOX, _MESSAGE, _ = Target

_TABLE = (
    Verb(
        "MAILBOX.CREATE",
        requests.CreateMailbox,
        _BROKER,
        replies.encode_created,
        replies.decode_created,
        repeatable=_finds_what_it_made,
        wakes=Wakes.EVERYBODY,
    ),
    Verb("MAILBOX.DROP", requests.DropMailbox, _MAILBOX, wakes=Wakes.EVERYBODY),
    Verb(
        "MAILBOX.STATUS",
        requests.Status,
        _MAILBOX,
        replies.encode_status,
        replies.decode_status,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "MAILBOX.GRANT",
        requests.GrantMailbox,
        _MAILBOX,
        replies.encode_grants,
        replies.decode_grants,
        repeatable=True,
    ),
    Verb(
        "PUBLIC.LIST",
        requests.ListPublic,
        _BROKER,
        replies.encode_public,
        replies.decode_public,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "MSG.SEND",
        requests.Send,
        _MAILBOX,
        replies.encode_msg_id,
        replies.decode_msg_id,
        repeatable=_is_stored_once,
        wakes=Wakes.ITS_GROUPS,
    ),
    Verb(
        "MSG.FETCH",
        requests.Fetch,
        _MAILBOX,
        replies.encode_fetch,
        replies.decode_fetch,
        repeatable=_gives_the_same_again,
    ),
    Verb(
        "MSG.ACK",
        requests.Ack,
        _MAILBOX,
        replies.encode_acked,
        replies.decode_acked,
        repeatable=True,
    ),
    Verb("MSG.NACK", requests.Nack, _MAILBOX, wakes=Wakes.ITS_GROUPS),
    Verb(
        "MSG.MOVE",
        requests.Move,
        _MAILBOX,
        replies.encode_move,
        replies.decode_move,
        repeatable=True,
        wakes=Wakes.GROUPS_ELSEWHERE,
    ),
    Verb(
        "MSG.EXTEND",
        requests.Extend,
        _MAILBOX,
        replies.encode_extended,
        replies.decode_extended,
        wakes=Wakes.ITS_GROUPS,
    ),
    Verb("MSG.RELEASE", requests.Release, _MAILBOX, wakes=Wakes.ITS_GROUPS),
    Verb(
        "MSG.QUERY",
        requests.Query,
        _MAILBOX,
        replies.encode_query,
        replies.decode_query,
        reads=True,
        repeatable=True,
    ),
    Verb("MSG.DELETE", requests.Delete, _MESSAGE, replies.encode_deleted),
    Verb(
        "AGENT.REGISTER",
        requests.Register,
        _BROKER,
        replies.encode_mailbox,
        replies.decode_mailbox,
        repeatable=True,
        wakes=Wakes.EVERYBODY,
    ),
    Verb("AGENT.UNREGISTER", requests.Unregister, _BROKER),
    Verb("AGENT.REPORT", requests.Report, _BROKER),
    Verb(
        "AGENT.DISCOVER",
        requests.Discover,
        _BROKER,
        replies.encode_discover,
        replies.decode_discover,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "AGENT.WHOAMI",
        requests.Whoami,
        _BROKER,
        replies.encode_whoami,
        replies.decode_whoami,
        reads=True,
        repeatable=True,
    ),
)

VERBS: Final = {verb.name: verb for verb in _TABLE}
OF_REQUEST: Final = {verb.request: verb for verb in _TABLE}


def verb_of(request: type[Body[Any]]) -> Verb:
    """Return the verb that a kind of request asks for."""
    return OF_REQUEST[request]
