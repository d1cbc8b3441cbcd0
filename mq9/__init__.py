"""mq9: the mailbox that AI agents talk through.

``Mq9Client`` speaks to a broker: ``nats://host`` is a server, ``memory://name`` and
``sqlite:///path`` are brokers inside this process. ``SyncMq9Client`` does the same without an event
loop. Errors are in ``mq9.errors``, what a test needs in ``mq9.testing``. What is named here is
loaded when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mq9.version import VERSION

if TYPE_CHECKING:
    from mq9.client import Mq9Client
    from mq9.consumer import (
        Consumer,
        ConsumerCounters,
        ConsumerEvent,
        ConsumerEventKind,
        Reject,
        Retry,
    )
    from mq9.errors import (
        AgentNotFound,
        BadReply,
        Forbidden,
        IdConflict,
        InvalidAddress,
        InvalidRequest,
        LimitReached,
        MailboxExists,
        MailboxFull,
        MailboxNotFound,
        MessageNotFound,
        Mq9Error,
        NoReply,
        NotConnected,
        PayloadTooLarge,
        ReplyMailboxNotFound,
        Unauthorized,
        Unavailable,
        Unreachable,
        UnusableFile,
    )
    from mq9.models import (
        AgentMatch,
        AgentMatches,
        Deliver,
        Extended,
        FetchResult,
        MailboxStatus,
        Match,
        Message,
        MessageHeaders,
        Moved,
        Priority,
        PublicMailbox,
        Unread,
        Waiting,
    )
    from mq9.sync_client import SyncConsumer, SyncMq9Client

__version__ = VERSION

__all__ = [
    "AgentMatch",
    "AgentMatches",
    "AgentNotFound",
    "BadReply",
    "Consumer",
    "ConsumerCounters",
    "ConsumerEvent",
    "ConsumerEventKind",
    "Deliver",
    "Extended",
    "FetchResult",
    "Forbidden",
    "IdConflict",
    "InvalidAddress",
    "InvalidRequest",
    "LimitReached",
    "MailboxExists",
    "MailboxFull",
    "MailboxNotFound",
    "MailboxStatus",
    "Match",
    "Message",
    "MessageHeaders",
    "MessageNotFound",
    "Moved",
    "Mq9Client",
    "Mq9Error",
    "NoReply",
    "NotConnected",
    "PayloadTooLarge",
    "Priority",
    "PublicMailbox",
    "Reject",
    "ReplyMailboxNotFound",
    "Retry",
    "SyncConsumer",
    "SyncMq9Client",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Unread",
    "UnusableFile",
    "Waiting",
]

_MODULES = {
    "AgentMatch": "mq9.models",
    "AgentMatches": "mq9.models",
    "AgentNotFound": "mq9.errors",
    "BadReply": "mq9.errors",
    "Consumer": "mq9.consumer",
    "ConsumerCounters": "mq9.consumer",
    "ConsumerEvent": "mq9.consumer",
    "ConsumerEventKind": "mq9.consumer",
    "Deliver": "mq9.models",
    "Extended": "mq9.models",
    "FetchResult": "mq9.models",
    "Forbidden": "mq9.errors",
    "IdConflict": "mq9.errors",
    "InvalidAddress": "mq9.errors",
    "InvalidRequest": "mq9.errors",
    "LimitReached": "mq9.errors",
    "MailboxExists": "mq9.errors",
    "MailboxFull": "mq9.errors",
    "MailboxNotFound": "mq9.errors",
    "MailboxStatus": "mq9.models",
    "Match": "mq9.models",
    "Message": "mq9.models",
    "MessageHeaders": "mq9.models",
    "MessageNotFound": "mq9.errors",
    "Moved": "mq9.models",
    "Mq9Client": "mq9.client",
    "Mq9Error": "mq9.errors",
    "NoReply": "mq9.errors",
    "NotConnected": "mq9.errors",
    "PayloadTooLarge": "mq9.errors",
    "Priority": "mq9.models",
    "PublicMailbox": "mq9.models",
    "Reject": "mq9.consumer",
    "ReplyMailboxNotFound": "mq9.errors",
    "Retry": "mq9.consumer",
    "SyncConsumer": "mq9.sync_client",
    "SyncMq9Client": "mq9.sync_client",
    "Unauthorized": "mq9.errors",
    "Unavailable": "mq9.errors",
    "Unreachable": "mq9.errors",
    "Unread": "mq9.models",
    "UnusableFile": "mq9.errors",
    "Waiting": "mq9.models",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("mq9.errors")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
