"""What the protocol speaks of: messages, priorities, agents, and the state of a mailbox."""

from mq9.models.agents import AgentMatch, AgentMatches, Match
from mq9.models.gathered import Gathered
from mq9.models.leases import Extended, FetchResult, Leased, Waiting
from mq9.models.mailboxes import (
    Granted,
    GroupStatus,
    MailboxStatus,
    MailboxType,
    MessageHistory,
    PublicMailbox,
    SendPolicy,
    Standing,
    Totals,
    Unread,
)
from mq9.models.messages import (
    NO_HEADERS,
    PRIORITIES,
    QUESTION_TAG,
    Deliver,
    Message,
    MessageClient,
    MessageHeaders,
    Moved,
    Payload,
    Priority,
    StoredMessage,
    bind,
)

__all__ = [
    "NO_HEADERS",
    "PRIORITIES",
    "QUESTION_TAG",
    "AgentMatch",
    "AgentMatches",
    "Deliver",
    "Extended",
    "FetchResult",
    "Gathered",
    "Granted",
    "GroupStatus",
    "Leased",
    "MailboxStatus",
    "MailboxType",
    "Match",
    "Message",
    "MessageClient",
    "MessageHeaders",
    "MessageHistory",
    "Moved",
    "Payload",
    "Priority",
    "PublicMailbox",
    "SendPolicy",
    "Standing",
    "StoredMessage",
    "Totals",
    "Unread",
    "Waiting",
    "bind",
]
