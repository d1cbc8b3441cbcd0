"""The names of all operations, in the order of the catalogue. Written by ``make generated``."""

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
READ_ONLY = frozenset(
    (
        "agent_discover",
        "query_messages",
        "whoami",
    )
)
