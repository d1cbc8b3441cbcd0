"""mq9: the mailbox that AI agents talk through.

``Mq9Client`` speaks to a broker: ``nats://host`` is a server, ``memory://name`` and
``sqlite:///path`` are brokers inside this process. ``SyncMq9Client`` does the same without an event
loop, ``Mailbox`` six operations of it. Errors are in ``mq9.errors``, tools for tests in
``mq9.testing``. A name is imported when it is used.
"""

from mq9.lazy import lazy_names
from mq9.version import VERSION

__version__ = VERSION

# The public names, by module. ``make generated`` writes ``__init__.pyi`` for type checkers.
_NAMES = {
    "client.client": "Mq9Client",
    "client.connection": "UnreadWatch",
    "client.consumer": (
        "Consumer ConsumerCounters ConsumerEvent ConsumerEventKind ConsumerOptions ErrorHandler "
        "EventHandler Handler Reject Retry back_at_work note_done without_slot"
    ),
    "client.error_answers": "ErrorAnswer Failure answer_id",
    "client.mailbox": "Mailbox",
    "client.options": "ClientOptions SendOptions",
    "client.receiver": "MessageCallback Receiver",
    "client.sync_client": (
        "SyncConsumer SyncConsumerOptions SyncErrorHandler SyncHandler SyncMq9Client"
    ),
    "client.sync_messages": "SyncMessage",
    "clock": "Clock",
    "discovery.embeddings": "Embeddings",
    "errors": (
        "AgentNotFound BadReply BrokerFailed Forbidden IdConflict InvalidAddress InvalidRequest "
        "LimitReached MailboxExists MailboxFull MailboxNotFound MessageNotFound Mq9Error "
        "NoReply NotConnected OutcomeUnknown PayloadTooLarge ReplyForbidden "
        "ReplyMailboxNotFound RequestFailed TooExpensive Unauthorized Unavailable Unreachable "
        "UnusableFile"
    ),
    "logs": "configure_logging",
    "models": (
        "AgentEntry AgentMatch AgentMatches Conversation ConversationMessage "
        "ConversationMessages ConversationPage Deliver Extended FetchResult Gathered "
        "GroupStatus Held Identity Leased Link ListedMailbox LookPolicy MailboxPage "
        "MailboxStatus MailboxType Match Message MessageHeaders MessageHistory Moved Notice "
        "NoticeReceipt NoticeSender Occasion Participant Payload Priority Progress Promise "
        "PublicMailbox Removed Role SendOutcome Sent SentAnswer SentPage Standing StoredMessage "
        "StuckMessage StuckPage Unread Waiting"
    ),
    "signals": "stop_on_signals",
    "transport.base": "Transport",
}

__all__ = sorted(" ".join(_NAMES.values()).split())  # noqa: PLE0605  # a list for all that

__getattr__, __dir__ = lazy_names(
    __name__, {module: names.split() for module, names in _NAMES.items()}
)
