"""An attacker's tries on the MCP server, and how to see whether they did something."""

import sqlite3
from contextlib import closing
from urllib.parse import quote

from mcp.shared.exceptions import MCPError
from tools.examples import arguments_at

# The mailbox of another, in every form that a careless check might take for something else.
FORMS = [
    *("cursor", "mq9://broker/cursor", "mq9:///cursor", "mq9://desk/cursor", "mq9://desk@x/cursor"),
    *("CURSOR", "Cursor", "cursor.", ".cursor", "cursor..", "desk..cursor", "desk/../cursor"),
    *("../cursor", "desk/cursor", "mq9://a/desk/../cursor", "mq9://a/mq9://b/cursor", "mq9:cursor"),
    *("*", "cur*", "?ursor", "[c]ursor", ">", "cursor.>", "desk,cursor", "desk cursor", "cursor "),
    *("cursor\0", "cursor\n", "desk\ncursor", "cursor\u200b", "\uff43ursor", "cursor?x=desk"),
    *("cursor#desk", "%63ursor", "desk.cursor", "d", "desk.", "https://x/cursor", "x" * 10_000),
]


def state(broker):
    """Return all that the broker holds, but for how many changes there were."""
    with closing(sqlite3.connect(broker.path)) as connection:
        return [one for one in connection.iterdump() if not one.startswith('INSERT INTO "state"')]


async def refusal(work):
    """Return what a refused request is told; None when it was not refused."""
    try:
        result = await work
    except MCPError as error:
        return error.error.message
    return result.content[0].text if getattr(result, "is_error", False) else None


def calls(address):
    """Every call that uses a mailbox otherwise than to send there, and variants of some."""
    there = {"mail_address": address}
    plain = arguments_at(address)
    plain["ack_messages"]["group_name"] = "cursor"
    return [
        *plain.items(),
        ("fetch_messages", {**there, "wait_seconds": 0, "group_name": "cursor"}),
        ("query_messages", {**there, "msg_id": 0, "max_chars": 10_000_000}),
        ("agent_register", {**there, "name": "desk", "capabilities": "x"}),
    ]


def uris(address):
    """Every resource that shows a mailbox."""
    for written in (address, quote(address, safe=""), quote(quote(address, safe=""))):
        yield from (f"mq9://mailbox/{written}", f"mq9://message/{written}/0")


async def refusals(host, address):
    """Try every call and URI that reaches a mailbox, and yield how each was answered."""
    for tool, arguments in calls(address):
        yield tool, arguments, await refusal(host.call(tool, **arguments))
    for uri in uris(address):
        yield "read", uri, await refusal(host.client.read_resource(uri))
