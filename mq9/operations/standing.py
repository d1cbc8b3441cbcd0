"""What became of a message that was fetched: who holds it, and why nothing can be done with it."""

from __future__ import annotations

from mq9.errors import Mq9Error
from mq9.models import MessageHistory, Standing
from mq9.operations.caller import Caller
from mq9.operations.deliveries import Delivery
from mq9.operations.times import time_at

UNEXPLAINED = "confirmed already, no longer stored, or held by another consumer now"
_GONE = {"expired", "deleted", "replaced", "evicted"}


async def history_of(
    caller: Caller, msg_id: int, address: str, group_name: str
) -> MessageHistory | None:
    """Return what happened to a message; None without the mailbox, or if the broker won't tell."""
    try:
        status = await caller.client.mailbox_status(address, group_name=group_name, msg_id=msg_id)
    except Mq9Error:
        return None
    return status.message


def held_by_another(history: MessageHistory | None, group_name: str, caller: Caller) -> str | None:
    """Say who holds a message and what to do; None when no other consumer does.

    Args:
        history: What happened to the message, if that is known.
        group_name: The group that it was fetched by.
        caller: Who asks.
    """
    for one in () if history is None else history.groups:
        if one.group_name == group_name and one.state == "leased":
            if one.until is None or one.consumer == caller.consumer:
                return None
            again = caller.tools.text(
                "[[ and fetch it again; @query_messages shows it meanwhile| and fetch it again]]"
            )
            return (
                f"another consumer holds it until {time_at(int(one.until))}, perhaps this program "
                f"before it was restarted. Wait until then{again}"
            )
    return None


def explained(history: MessageHistory, one: Delivery) -> str:
    """Say why nothing can be done with a message that the caller does not hold."""
    standing = standing_of(history, one.group_name)
    state = None if standing is None else standing.state
    if state == "acked":
        return "confirmed already"
    if standing is not None and state == "moved":
        return f"moved to {standing.moved_to} already"
    if history.state in _GONE:
        return f"no longer stored: {history.state}"
    if standing is not None and standing.consumer not in {None, one.consumer}:
        return "another consumer has it now"
    if state in {"pending", "given_back"}:
        return "your lease has ended, and it will be delivered again"
    return UNEXPLAINED


async def loss(caller: Caller, msg_id: int, one: Delivery) -> str | None:
    """Return what became of a message whose lease has ended; None if the caller holds it anew."""
    found = await history_of(caller, msg_id, one.mail_address, one.group_name)
    standing = None if found is None else standing_of(found, one.group_name)
    what = ""
    if found is not None and found.state in _GONE:
        what = f", and it is no longer stored: {found.state}"
    elif standing is not None:
        match standing.state:
            case "leased" if standing.consumer == one.consumer:
                return None
            case "leased":
                what = ", and another consumer has it"
            case "acked":
                what = ", and it has been confirmed since"
            case "moved":
                what = f", and it has been moved to {standing.moved_to} since"
            case _:
                what = caller.tools.text(
                    ", and it will be delivered again[[: call @fetch_messages]]"
                )
    return f"your lease ended{what}"


def standing_of(found: MessageHistory, group_name: str) -> Standing | None:
    """Return where a message stands with a group; None where the broker does not say."""
    return next((one for one in found.groups if one.group_name == group_name), None)
