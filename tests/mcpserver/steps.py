"""The steps of an agent that mails itself and clears away, with every tool that there is.

It imports nothing, so that programs in other environments can have it, too.
"""


def newest(said):
    """Return how the newest message of the last query is named."""
    found = said["mq9_query_messages"]
    return {"mail_address": found["mail_address"], "msg_id": found["messages"][-1]["msg_id"]}


# Which tool is called next, and with what: it may depend on what the tools said before.
STEPS = [
    ("mq9_whoami", lambda _said: {}),
    (
        "mq9_agent_register",
        lambda said: {"name": said["mq9_whoami"]["name"], "capabilities": "Counts bees."},
    ),
    ("mq9_agent_discover", lambda _said: {"query": "somebody who counts bees"}),
    ("mq9_create_mailbox", lambda _said: {"ttl": 600}),
    (
        "mq9_send_message",
        lambda said: {
            "to": said["mq9_agent_discover"]["agents"][0]["mail_address"],
            "content": "How many are home?",
            "priority": "urgent",
            "tags": ["bees"],
            "reply_to": said["mq9_create_mailbox"]["mail_address"],
        },
    ),
    ("mq9_fetch_messages", lambda _said: {"wait_seconds": 5}),
    (
        "mq9_ack_messages",
        lambda said: {"msg_id": said["mq9_fetch_messages"]["messages"][-1]["msg_id"]},
    ),
    ("mq9_query_messages", lambda _said: {"tags": ["bees"]}),
    ("mq9_delete_message", newest),
    (
        "mq9_delete_message",
        lambda said: {**newest(said), "confirm_address": said["mq9_whoami"]["mail_address"]},
    ),
    ("mq9_query_messages", lambda _said: {}),
    ("mq9_agent_unregister", lambda _said: {}),
]
UNCONFIRMED = 8  # the step that is refused, as the user cannot be asked
