"""How each generation of the protocol makes a mailbox, writes to it and reads it."""

from dataclasses import dataclass

CURRENT, SECOND, FIRST = "current", "second", "first"
GENERATIONS = (CURRENT, SECOND, FIRST)

# The words for priorities, from the least urgent, and the lane in which each is stored.
WORDS = {
    CURRENT: {"normal": "normal", "urgent": "urgent", "critical": "critical"},
    SECOND: {
        "low": "normal",
        "normal": "normal",
        "urgent": "urgent",
        "high": "critical",
        "critical": "critical",
    },
    FIRST: {"notify": "normal", "normal": "normal", "urgent": "urgent"},
}
LANES = ["critical", "urgent", "normal"]
LOW = {"low", "notify"}

_MAKES = {CURRENT: {"renew": False}, SECOND: {"public": True}, FIRST: {"type": "standard"}}


@dataclass
class Box:
    """A mailbox, and what is needed to read it in the first generation."""

    address: str
    token: str | None = None


async def make(way, generation, name="box", **fields):
    """Make a mailbox."""
    reply = await way.ask("MAILBOX.CREATE", {"name": name, **_MAKES[generation], **fields})
    assert reply["error"] == "", reply
    if generation == FIRST:
        assert reply["inbox"] == f"$mq9.AI.INBOX.{reply['mail_id']}"
        return Box(reply["mail_id"], reply["token"])
    return Box(reply["mail_address"])


def subject_of(generation, address, priority):
    """Return the verb, and the headers, that send a message with a priority."""
    if generation == CURRENT:
        return f"MSG.SEND.{address}", (("mq9-priority", priority),)
    return f"{'MAILBOX.MSG' if generation == SECOND else 'INBOX'}.{address}.{priority}", ()


async def write(way, generation, address, body, priority="normal", *headers):
    """Write to a mailbox; the id of the message."""
    verb, own = subject_of(generation, address, priority)
    reply = await way.ask(verb, body, *own, *headers)
    assert reply["error"] == "", reply
    return reply["msg_id"]


async def _ask(way, verb, body):
    reply = await way.ask(verb, body)
    assert reply["error"] == "", reply
    return reply["messages"]


async def fetch(way, box):
    body = {"group_name": "g", "config": {"max_wait_ms": 0}}
    return await _ask(way, f"MSG.FETCH.{box.address}", body)


async def peek(way, box):
    return await _ask(way, f"MSG.FETCH.{box.address}", {"config": {"max_wait_ms": 0}})


async def query(way, box):
    return await _ask(way, f"MSG.QUERY.{box.address}", b"")


async def list_all(way, box):
    return await _ask(way, f"MAILBOX.LIST.{box.address}", b"")


async def unread(way, box):
    reply = await way.ask(f"MAILBOX.QUERY.{box.address}", {"token": box.token})
    assert reply["error"] == "", reply
    assert reply["mail_id"] == box.address
    assert reply["unread"] == len(reply["messages"])
    return reply["messages"]


BY_PRIORITY = (fetch, peek, unread)  # the others read in the order of writing
READERS = (fetch, peek, query, list_all, unread)
