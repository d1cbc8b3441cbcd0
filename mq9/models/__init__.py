"""What the protocol speaks of: messages, priorities, agents, and the state of a mailbox."""

from mq9.models.agents import AgentMatch, AgentMatches, Match
from mq9.models.mailboxes import (
    GroupStatus,
    MailboxStatus,
    MessageLife,
    PublicMailbox,
    Standing,
    Totals,
    Unread,
)
from mq9.models.messages import (
    NO_HEADERS,
    PRIORITIES,
    Deliver,
    Extended,
    FetchResult,
    Leased,
    Message,
    MessageHeaders,
    Moved,
    Priority,
    Waiting,
)

__all__ = [
    "NO_HEADERS",
    "PRIORITIES",
    "AgentMatch",
    "AgentMatches",
    "Deliver",
    "Extended",
    "FetchResult",
    "GroupStatus",
    "Leased",
    "MailboxStatus",
    "Match",
    "Message",
    "MessageHeaders",
    "MessageLife",
    "Moved",
    "Priority",
    "PublicMailbox",
    "Standing",
    "Totals",
    "Unread",
    "Waiting",
]
