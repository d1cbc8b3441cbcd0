"""Arguments of every operation: some that are accepted, and for each argument some that are not."""

from mq9.operations.catalog import ALL


def valid_arguments(agent):
    """For each operation, arguments that it accepts.

    The agent holds message 0 of its own mailbox, whose address is its name; there is an agent
    `worker`, whose mailbox it may not read.
    """
    return {
        "agent_register": {"name": agent, "capabilities": "Plans"},
        "agent_discover": {"query": "plan", "limit": 3},
        "create_mailbox": {"name": "new.one", "ttl": 60},
        "send_message": {"to": agent, "content": "x"},
        "fetch_messages": {"wait_seconds": 0},
        "ack_messages": {"msg_id": 0},
        "query_messages": {},
        "delete_message": {"mail_address": agent, "msg_id": 0, "confirm_address": agent},
        "whoami": {},
        "agent_unregister": {},
    }


def required_arguments(agent):
    """The same, without arguments that may be left out."""
    return {
        name: {
            argument: value
            for argument, value in arguments.items()
            if ALL[name].arguments.model_fields[argument].is_required()
            or argument in {"to", "msg_id"}
        }
        for name, arguments in valid_arguments(agent).items()
    }


def with_mailbox(name, arguments, mail_address):
    """Arguments of an operation, with another mailbox in those that name one."""
    named = ALL[name].arguments.model_fields.keys() & {"mail_address", "to", "confirm_address"}
    return arguments | dict.fromkeys(named, mail_address)


def arguments_at(mail_address):
    """For each operation that uses a mailbox otherwise than to send there: arguments that name it.

    They leave out who the agent is.
    """
    return {
        name: with_mailbox(
            name, {one: value for one, value in arguments.items() if one != "name"}, mail_address
        )
        for name, arguments in valid_arguments(mail_address).items()
        if name != "send_message" and "mail_address" in ALL[name].arguments.model_fields
    }


VALID = valid_arguments("planner")
REQUIRED = required_arguments("planner")

NOT_TEXT = [7, 1.5, True, ["a"], {"a": 1}, b"a"]
NOT_WHOLE = ["7", 1.5, True, [7], {"a": 1}, float("nan"), float("inf"), 10**30]
BROKEN = ["\ud800", "a\udfffb"]
UNPRINTABLE = ["a\0b", "a\u200bb", "a\nb", "\u202eb", "\x1b[31m"]
ADDRESSES = [
    *NOT_TEXT,
    *BROKEN,
    *UNPRINTABLE,
    *(" ", " planner", "Planner", "a..b", ".a", "a.", "a_b", "雪", "a" * 129, "mq9://x/", "*", ">"),
]
WORDS = [*NOT_TEXT, *BROKEN, *UNPRINTABLE, " a", "a ", "x" * 257]
TEXT = [*NOT_TEXT, *BROKEN]
IDS = [
    *("a", 7, {"a": "b"}, [7], [None], [""], ["a"] * 101),
    *([word] for word in ("x" * 257, *BROKEN)),
]
TEN_YEARS = 10 * 365 * 86_400

WRONG = {
    ("agent_register", "name"): ["x" * 129, "worker", *TEXT, *UNPRINTABLE],
    ("agent_register", "capabilities"): [None, "", "x" * 20_001, *TEXT],
    ("agent_register", "mail_address"): [*ADDRESSES, "worker"],
    ("agent_discover", "query"): [
        *("x" * 4_097, 7, 1.5, True, {"a": 1}, b"a", *BROKEN),
        *(["a", ""], ["a"] * 6, ["a", 7], ["x" * 4_097], ["a", None], BROKEN),
    ],
    ("agent_discover", "limit"): [0, -1, 101, *NOT_WHOLE],
    ("agent_discover", "wait_seconds"): [-1, 3_601, *NOT_WHOLE],
    ("create_mailbox", "name"): ADDRESSES,
    ("create_mailbox", "ttl"): [-1, TEN_YEARS + 1, *NOT_WHOLE],
    ("create_mailbox", "readable_by"): [
        *("worker", 7, {"a": 1}, ["a" * 129], [""], [7], [None], ["a"] * 65),
        *([name] for name in UNPRINTABLE),
        ["everybody", "worker"],
    ],
    ("send_message", "to"): [None, "", *ADDRESSES],
    ("send_message", "content"): [None, "x" * (1024 * 1024 + 1), "雪" * 400_000, *TEXT],
    ("send_message", "priority"): ["high", "URGENT", " normal", 1, ["urgent"], *BROKEN],
    ("send_message", "key"): WORDS,
    ("send_message", "delay"): [-1, TEN_YEARS + 1, *NOT_WHOLE],
    ("send_message", "ttl"): [-1, TEN_YEARS + 1, *NOT_WHOLE],
    ("send_message", "tags"): [
        "a",
        7,
        {"a": "b"},
        ("a",),
        ["a,b"],
        [""],
        ["a", None],
        [str(number) for number in range(65)],
        *([word] for word in WORDS),
    ],
    ("send_message", "reply_to_msg"): [-1, 2**53, "7", 1.5, True, [0]],
    ("send_message", "reply_to"): ADDRESSES,
    ("send_message", "correlation_id"): WORDS,
    ("fetch_messages", "mail_address"): [*ADDRESSES, "worker"],
    ("fetch_messages", "group_name"): WORDS,
    ("fetch_messages", "limit"): [0, -1, 1_001, *NOT_WHOLE],
    ("fetch_messages", "wait_seconds"): [-1, 3_601, *NOT_WHOLE],
    ("fetch_messages", "min_msgs"): [0, -1, 1_001, *NOT_WHOLE],
    ("fetch_messages", "answers_to"): IDS,
    ("fetch_messages", "reclaim"): [0, 1, "yes", 1.5, [True], {"a": 1}],
    ("fetch_messages", "max_chars"): [0, 99, 10_000_001, *NOT_WHOLE],
    ("fetch_messages", "include_held"): [0, 1, "yes", 1.5, [True], {"a": 1}],
    ("fetch_messages", "new_only"): [0, 1, "yes", 1.5, [True], {"a": 1}],
    ("ack_messages", "msg_id"): [
        *(None, "", -1, 2**53, 9, "7", 1.5, True, {"a": 1}, float("nan"), 10**30),
        *([], [9], [0, 9], ["0"], [True], [0, -1], [[0]], [0] * 101),
    ],
    ("ack_messages", "outcome"): ["ack", "DONE", 1, ["done"], True, *BROKEN],
    ("ack_messages", "through"): [0, 1, "yes", "true", 1.5, [True], {"a": 1}],
    ("ack_messages", "seconds"): [0, 5, -1, 86_401, *NOT_WHOLE],
    ("ack_messages", "mail_address"): [*ADDRESSES, "worker"],
    ("ack_messages", "group_name"): [*WORDS, "other"],
    ("query_messages", "mail_address"): [*ADDRESSES, "worker"],
    ("query_messages", "key"): WORDS,
    ("query_messages", "tags"): ["a", 7, ["a,b"], [""], *([word] for word in WORDS)],
    ("query_messages", "since"): [
        *TEXT,
        *("yesterday", "2026-13-01", "1969-12-31T23:59:59Z", "12:00"),
        *("9999-12-31T23:59:59-23:59", " 2026-11-21", "1800000000", "2026-11-21T07:09:00+25:00"),
    ],
    ("query_messages", "sent"): [0, 1, "yes", 1.5, [True], {"a": 1}],
    ("query_messages", "state"): ["read", "NEW", " new", 1, ["new"], *BROKEN],
    ("query_messages", "correlation_ids"): IDS,
    ("query_messages", "before_id"): [-1, 2**53, *NOT_WHOLE],
    ("query_messages", "wait_seconds"): [-1, 5, 3_601, *NOT_WHOLE],
    ("query_messages", "msg_id"): [-1, 2**53, *NOT_WHOLE],
    ("query_messages", "limit"): [0, -1, 1_001, *NOT_WHOLE],
    ("query_messages", "max_chars"): [0, 99, 10_000_001, *NOT_WHOLE],
    ("delete_message", "mail_address"): [None, "", *ADDRESSES, "worker"],
    ("delete_message", "delayed_id"): [-1, 0, 2**53, *NOT_WHOLE],
    ("delete_message", "msg_id"): [None, "", -1, 2**53, 9, *NOT_WHOLE],
    ("delete_message", "confirm_address"): [*ADDRESSES, "worker"],
}
