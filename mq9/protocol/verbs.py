"""The verb table: every verb of the protocol, declared once.

The subject of a request is ``$mq9.AI.<verb>``. A mail_address follows for a verb about a mailbox,
and a message id after that for a verb about one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from mq9.errors import Mq9Error
from mq9.protocol import listing_replies, replies, requests
from mq9.protocol.body import Body, Named
from mq9.protocol.headers import RequestHeaders


class Target(Enum):
    """The target of a verb, named in its subject."""

    BROKER = 0
    MAILBOX = 1
    MESSAGE = 2
    PRIORITY = 3  # of older generations: a mailbox, and perhaps the priority of the message


class Wakes(Enum):
    """The waiting clients that look for mail again after a request."""

    NOBODY = 0
    ITS_GROUPS = 1  # there may be something to lease in the mailbox
    EVERYBODY = 2  # all that wait for that address: it may be another mailbox now
    GROUPS_ELSEWHERE = 3  # there may be something to lease in the other mailbox of the request


@dataclass(frozen=True, slots=True)
class Verb:
    """A row of the table."""

    name: str
    request: type[Body[Any]]
    target: Target
    # Writes the outcome as fields of the reply, and reads it from them.
    reply: Callable[..., dict[str, Any]] = replies.nothing
    outcome: Callable[[dict[str, Any]], Any] = replies.decode_nothing
    reads: bool = False  # and changes nothing
    # Whether it may be repeated if its reply was lost, or a function of the request that tells.
    repeatable: bool | Callable[[Any], bool] = False
    wakes: Wakes = Wakes.NOBODY
    # Reads the request of an older generation.
    decode: Callable[[bytes, RequestHeaders, Named], Body[Any]] | None = None
    # Tells by the payload whether this verb is meant, if several have one name.
    claims: Callable[[bytes], bool] | None = None
    success: Callable[[dict[str, Any]], dict[str, Any]] = replies.success
    failure: Callable[[Mq9Error], dict[str, Any]] = replies.failure

    def read(self, payload: bytes, headers: RequestHeaders, named: Named) -> Body[Any]:
        """Read a request of the verb."""
        if self.decode is not None:
            return self.decode(payload, headers, named)
        return self.request.read(payload, headers, named.msg_id)

    def may_repeat(self, request: Body[Any]) -> bool:
        """Tell whether a request of the verb may be repeated if its reply was lost."""
        return self.repeatable(request) if callable(self.repeatable) else self.repeatable


# Verbs of older generations, by name. A subject means the first of its name that claims it.
OlderVerbs = Mapping[str, tuple[Verb, ...]]
NO_OLDER_VERBS: Final[OlderVerbs] = {}


_BROKER, _MAILBOX, _MESSAGE, _ = Target

_TABLE = (
    Verb(
        "MAILBOX.CREATE",
        requests.CreateMailbox,
        _BROKER,
        replies.encode_created,
        replies.decode_created,
        repeatable=lambda create: create.renew and create.name is not None,
        wakes=Wakes.EVERYBODY,
    ),
    Verb("MAILBOX.DROP", requests.DropMailbox, _MAILBOX, wakes=Wakes.EVERYBODY),
    Verb(
        "MAILBOX.STATUS",
        requests.Status,
        _MAILBOX,
        replies.without_none,
        replies.decode_status,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "MAILBOX.GRANT",
        requests.GrantMailbox,
        _MAILBOX,
        asdict,
        replies.decode_grants,
        repeatable=True,
    ),
    Verb(
        "OWN.LIST",
        requests.ListMailboxes,
        _BROKER,
        replies.encode_mailboxes,
        replies.decode_mailboxes,
        reads=True,
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
        replies.encode_send,
        replies.decode_send,
        repeatable=lambda send: send.id is not None,
        wakes=Wakes.ITS_GROUPS,
    ),
    Verb(
        "MSG.FETCH",
        requests.Fetch,
        _MAILBOX,
        replies.encode_fetch,
        replies.decode_fetch,
        repeatable=lambda fetch: fetch.group_name is None or fetch.request_id is not None,
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
        asdict,
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
    Verb(
        "MSG.SENT",
        requests.ListSent,
        _BROKER,
        replies.encode_sent,
        replies.decode_sent,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "CONVERSATION.LIST",
        requests.ListConversations,
        _BROKER,
        listing_replies.encode_conversations,
        listing_replies.decode_conversations,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "CONVERSATION.READ",
        requests.ReadConversation,
        _BROKER,
        listing_replies.encode_conversation,
        listing_replies.decode_conversation,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "CONVERSATION.LINKS",
        requests.ListLinks,
        _BROKER,
        listing_replies.encode_links,
        listing_replies.decode_links,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "STUCK.LIST",
        requests.ListStuck,
        _BROKER,
        listing_replies.encode_stuck,
        listing_replies.decode_stuck,
        reads=True,
        repeatable=True,
    ),
    Verb("MSG.NOTICE", requests.Notify, _MAILBOX, replies.encode_notice, replies.decode_notice),
    Verb("MSG.DELETE", requests.Delete, _MESSAGE, replies.encode_deleted),
    Verb("MSG.CANCEL", requests.Cancel, _MAILBOX, replies.encode_cancelled),
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
        "AGENT.LOOKUP",
        requests.Lookup,
        _BROKER,
        replies.encode_lookup,
        replies.decode_lookup,
        reads=True,
        repeatable=True,
    ),
    Verb(
        "AGENT.WHOAMI",
        requests.Whoami,
        _BROKER,
        replies.without_none,
        replies.decode_whoami,
        reads=True,
        repeatable=True,
    ),
)

VERBS: Final = {verb.name: verb for verb in _TABLE}
OF_REQUEST: Final = {verb.request: verb for verb in _TABLE}


def verb_of(request: type[Body[Any]]) -> Verb:
    """Return the verb of a kind of request."""
    return OF_REQUEST[request]
