"""The names of the operations, for who does not need the operations themselves, which take time."""

# In the order of the catalog.
NAMES = (
    "agent_register",
    "agent_discover",
    "create_mailbox",
    "send_message",
    "fetch_messages",
    "ack_messages",
    "query_messages",
    "delete_message",
    "whoami",
    "agent_unregister",
)
READ_ONLY = frozenset({"agent_discover", "query_messages", "whoami"})
