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
    from mq9.client.client import Mq9Client
    from mq9.client.consumer import (
        Consumer,
        ConsumerCounters,
        ConsumerEvent,
        ConsumerEventKind,
        Reject,
        Retry,
    )
    from mq9.client.options import ClientOptions
    from mq9.client.sync_client import SyncConsumer, SyncMq9Client
    from mq9.client.sync_messages import SyncMessage
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
        StoredMessage,
        Unread,
        Waiting,
    )

__version__ = VERSION

__all__ = [
    "AgentMatch",
    "AgentMatches",
    "AgentNotFound",
    "BadReply",
    "ClientOptions",
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
    "StoredMessage",
    "SyncConsumer",
    "SyncMessage",
    "SyncMq9Client",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Unread",
    "UnusableFile",
    "Waiting",
]

_NAMES = {
    "client.client": ("Mq9Client",),
    "client.consumer": (
        "Consumer",
        "ConsumerCounters",
        "ConsumerEvent",
        "ConsumerEventKind",
        "Reject",
        "Retry",
    ),
    "client.options": ("ClientOptions",),
    "errors": (
        "AgentNotFound",
        "BadReply",
        "Forbidden",
        "IdConflict",
        "InvalidAddress",
        "InvalidRequest",
        "LimitReached",
        "MailboxExists",
        "MailboxFull",
        "MailboxNotFound",
        "MessageNotFound",
        "Mq9Error",
        "NoReply",
        "NotConnected",
        "PayloadTooLarge",
        "ReplyMailboxNotFound",
        "Unauthorized",
        "Unavailable",
        "Unreachable",
        "UnusableFile",
    ),
    "models": (
        "AgentMatch",
        "AgentMatches",
        "Deliver",
        "Extended",
        "FetchResult",
        "MailboxStatus",
        "Match",
        "Message",
        "MessageHeaders",
        "Moved",
        "Priority",
        "PublicMailbox",
        "StoredMessage",
        "Unread",
        "Waiting",
    ),
    "client.sync_client": (
        "SyncConsumer",
        "SyncMq9Client",
    ),
    "client.sync_messages": ("SyncMessage",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if any(module.split(".")[0] == name for module in _NAMES):
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
