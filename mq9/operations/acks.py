"""The operation on fetched messages: acknowledge, give back, or extend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from mq9.errors import InvalidRequest, MessageNotFound, Mq9Error
from mq9.models import MessageHistory, Standing
from mq9.operations.caller import Caller
from mq9.operations.leases import FetchedFrom, is_of
from mq9.operations.message_views import time_at
from mq9.operations.operation import Arguments, Group, Number, OwnMailbox, Result, operation
from mq9.protocol import checks
from mq9.protocol.requests import MAX_LEASE_MS

UNEXPLAINED = "confirmed already, no longer stored, or held by another consumer now"
_GONE = {"expired", "deleted", "replaced", "evicted"}


async def history_of(
    caller: Caller, msg_id: int, address: str, group_name: str
) -> MessageHistory | None:
    """Return the history of a message; None without the mailbox, or if the broker has none."""
    try:
        status = await caller.client.mailbox_status(address, group_name=group_name, msg_id=msg_id)
    except Mq9Error:
        return None
    return status.message


def held_by_another(history: MessageHistory | None, group_name: str, caller: Caller) -> str | None:
    """Say who holds a message and what to do; None when no other consumer does."""
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


def explained(history: MessageHistory, one: FetchedFrom) -> str:
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


async def loss(caller: Caller, msg_id: int, one: FetchedFrom) -> str | None:
    """Return the state of a message whose lease has ended; None if the caller holds it again."""
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
    """Return the state of a message in a group; None if the broker does not report it."""
    return next((one for one in found.groups if one.group_name == group_name), None)


_MOST_IDS = 100
_MOST_NAMED = 5  # mailboxes that an error names
_MOST_EXPLAINED = 10  # messages whose state is looked up
_MOST_EXTENDED = 1_000  # in one request


class AckArguments(Arguments):
    """Arguments of ack_messages."""

    msg_id: Annotated[
        Number | Annotated[list[Number], Field(min_length=1, max_length=_MOST_IDS)],
        Field(description="One or more that you fetched."),
    ]
    outcome: Annotated[
        Literal["done", "read", "give_back", "more_time"] | None,
        Field(
            description="read: not acted on. give_back: others get it. more_time: yours longer. "
            "Else done."
        ),
    ] = None
    through: Annotated[
        bool | None,
        Field(description="And all that stand before it in that fetch result, as it lists them."),
    ] = None
    seconds: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_LEASE_MS // 1000,
            description="For give_back: how long nobody gets it; for more_time: how long from now.",
        ),
    ] = None
    mail_address: Annotated[
        OwnMailbox, Field(description="Where you fetched it, if that is not clear.")
    ] = None
    group_name: SkipJsonSchema[
        Annotated[Group, Field(description="By which group, if that is not clear.")]
    ] = None


class AckResult(Result):
    """Result of ack_messages."""

    mail_address: str
    acked: list[int] | None = Field(default=None, description="Every msg_id that it confirmed.")
    outcome: str | None = Field(default=None, description="read, if you did not act on them.")
    given_back: list[int] | None = None
    extended: list[int] | None = Field(default=None, description="Yours for longer.")
    leased_seconds: int | None = Field(default=None, description="For how long, from now.")
    leased_until: str | None = Field(default=None, description="The same as a time, UTC.")
    lost: dict[int, str] | None = Field(
        default=None, description="What could not be done, by msg_id, and why."
    )


@operation(
    title="Acknowledge messages",
    description=(
        "Confirm that you have dealt with messages that you fetched, or say by outcome what else "
        "becomes of them. Only the named ones are concerned."
    ),
    idempotent=True,
    leases=True,
)
async def ack_messages(caller: Caller, arguments: AckArguments) -> AckResult:
    """Acknowledge, give back or extend messages that the caller fetched."""
    given = arguments.msg_id
    named = list(dict.fromkeys([given] if isinstance(given, int) else given))
    _check(arguments)
    found = await deliveries_of(caller, named, arguments.mail_address, arguments.group_name)
    match arguments.outcome:
        case "done" | "read" | None:
            result = await confirm(caller, found, through=bool(arguments.through))
            return (
                result.model_copy(update={"outcome": "read"})
                if arguments.outcome == "read"
                else result
            )
        case "give_back":
            return await _give_back(caller, _every(found, arguments), arguments.seconds or 0)
        case "more_time":
            return await _extend(caller, _every(found, arguments), arguments.seconds)


def _check(arguments: AckArguments) -> None:
    checks.optional(checks.header_text)("group_name", arguments.group_name)
    if arguments.seconds is not None and arguments.outcome not in {"give_back", "more_time"}:
        raise InvalidRequest("seconds: it is for give_back and more_time, not for done or read")
    if arguments.seconds == 0 and arguments.outcome == "more_time":
        raise InvalidRequest("seconds: 0 adds no time; give the message back to release it")


async def deliveries_of(
    caller: Caller,
    named: Sequence[int],
    mail_address: str | None = None,
    group_name: str | None = None,
) -> dict[int, FetchedFrom]:
    """Return the fetch result of each message, all of them of one mailbox and group."""
    address = None if mail_address is None else await caller.mailbox_to_read(mail_address)
    found = {}
    for msg_id in named:
        delivery = _delivery(caller, msg_id, address, group_name)
        if delivery is None:
            delivery = await _fetched_before(caller, msg_id, address, group_name)
        if delivery is None and address is not None:
            group = caller.group_to_use(group_name, address)
            delivery = FetchedFrom(address, group, caller.consumer)
        if delivery is None:
            raise MessageNotFound(await _not_fetched(caller, msg_id, group_name))
        found[msg_id] = delivery
    first = found[named[0]]
    for msg_id, one in found.items():
        if (one.mail_address, one.group_name) != (first.mail_address, first.group_name):
            raise InvalidRequest(
                f"msg_id: {named[0]} was fetched from {_place(first, one)} and {msg_id} from "
                f"{_place(one, first)}; call once for each"
            )
    if address is None:
        await caller.mailbox_to_read(first.mail_address)
    return found


def _delivery(
    caller: Caller, msg_id: int, address: str | None, group_name: str | None
) -> FetchedFrom | None:
    """Return the remembered fetch result of a message; None when none is."""

    def matching(deliveries: list[FetchedFrom]) -> list[FetchedFrom]:
        return [
            one
            for one in deliveries
            if address in {None, one.mail_address} and group_name in {None, one.group_name}
        ]

    found = matching(caller.deliveries.find(msg_id))
    if not found:
        found = matching(caller.deliveries.find_elsewhere(msg_id))
    if not found:
        return None
    if caller.private is not None:  # in a thread, calls are made one after the other
        found = caller.deliveries.held(found, msg_id)
    mailboxes = list(dict.fromkeys(one.mail_address for one in reversed(found)))
    if len(mailboxes) > 1:
        more = len(mailboxes) - _MOST_NAMED
        listed = " and ".join(mailboxes[:_MOST_NAMED] + ([f"{more} more"] if more > 0 else []))
        raise InvalidRequest(f"mail_address: you fetched {msg_id} from {listed}; say from which")
    if len(found) > 1:
        raise InvalidRequest(
            f"group_name: you fetched {msg_id} by {len(found)} groups; say by which"
        )
    return found[0]


async def _fetched_before(
    caller: Caller, msg_id: int, address: str | None, group_name: str | None
) -> FetchedFrom | None:
    """Return where the broker knows that the caller fetched a message, if that is clear.

    Where some clients open a session for each call, what other sessions of the agent fetched is
    the caller's, too: what one of them holds, and in the agent's own group what none holds now.
    """
    if caller.identity is None:
        return None
    held, confirmed = [], []
    own = caller.identity.mail_address
    private = [] if caller.private is None else [caller.private.mail_address]
    for place in [*private, own] if address is None else [address]:
        group = caller.group_to_use(group_name, place)
        history = await history_of(caller, msg_id, place, group)
        standing = None if history is None else standing_of(history, group)
        match standing:
            case Standing(state="leased", consumer=str(consumer)) if _is_own(caller, consumer):
                held.append(FetchedFrom(place, group, consumer))
            case Standing(state="pending" | "given_back" | "acked" as state, deliveries=times) if (
                caller.deliveries.and_others and group == own and (times or state == "acked")
            ):
                held.append(FetchedFrom(place, group, ""))
            case Standing(state="acked" | "moved") if caller.idempotency_id is not None:
                confirmed.append(FetchedFrom(place, group, caller.consumer))
    found = held or confirmed
    return found[0] if len(found) == 1 else None


def _is_own(caller: Caller, consumer: str) -> bool:
    """Return whether a consumer is the caller, or a session whose work it may continue."""
    if caller.deliveries.and_others:
        return consumer.startswith(caller.sessions)
    return is_of(consumer, caller.consumer)


async def _not_fetched(caller: Caller, msg_id: int, group_name: str | None) -> str:
    by = "" if group_name is None else " by that group"
    more = caller.tools.text("[[; @fetch_messages gives what waits]]")
    told = f"message not found: you have not fetched {msg_id}{by} here{more}. "
    if caller.identity is not None:
        address = caller.identity.mail_address
        group = caller.group_to_use(group_name, address)
        held = held_by_another(await history_of(caller, msg_id, address, group), group, caller)
        if held is not None:
            return f"{told}In {address} {held}. If you mean another mailbox, give its mail_address"
    return f"{told}If it was fetched before this program was restarted, give its mail_address"


def _place(one: FetchedFrom, other: FetchedFrom) -> str:
    if one.mail_address != other.mail_address:
        return one.mail_address
    return f"{one.mail_address} by another group"


def _every(found: dict[int, FetchedFrom], arguments: AckArguments) -> dict[int, FetchedFrom]:
    if not arguments.through:
        return found
    meant: dict[int, FetchedFrom] = {}
    for msg_id, delivery in found.items():
        if not delivery.msg_ids:
            raise InvalidRequest(
                f"through: what was fetched before {msg_id} is not known here; name each message"
            )
        meant |= dict.fromkeys(delivery.through(msg_id), delivery)
    return meant


async def confirm(
    caller: Caller, found: dict[int, FetchedFrom], *, through: bool = False
) -> AckResult:
    """Acknowledge messages."""
    acked: dict[int, None] = {}
    refused: dict[int, MessageNotFound] = {}
    for msg_id, one in found.items():
        try:
            confirmed = await caller.client.ack(
                one.mail_address,
                one.group_name,
                msg_id,
                batch=one.batch,
                individual=not through,
                consumer=one.consumer or None,
                any_consumer=not one.consumer,
            )
        except MessageNotFound as error:
            refused[msg_id] = error
            continue
        if one.msg_ids and one.batch is None:
            confirmed = [msg_id]  # a broker without leases confirms without names
        acked |= dict.fromkeys(confirmed)
    if refused and not acked:
        msg_id, first = next(iter(refused.items()))
        one = found[msg_id]
        if not one.msg_ids:
            history = await history_of(caller, msg_id, one.mail_address, one.group_name)
            held = held_by_another(history, one.group_name, caller)
            if held is not None:
                raise MessageNotFound(f"{first}. There {held}") from first
        raise first
    _let_go(caller, found, acked)
    lost = await _lost(caller, {one: found[one] for one in found if one not in acked}, refused)
    return AckResult(
        mail_address=next(iter(found.values())).mail_address, acked=list(acked), lost=lost
    )


def _let_go(caller: Caller, fetched: dict[int, FetchedFrom], msg_ids: Iterable[int]) -> None:
    """Note that messages were acked or given back."""
    if caller.leases is not None:
        caller.leases.let_go(fetched, msg_ids)
    [*_, place] = fetched.values()
    for msg_id in msg_ids:
        caller.deliveries.let_go(fetched.get(msg_id, place), msg_id)


async def _give_back(caller: Caller, meant: dict[int, FetchedFrom], seconds: int) -> AckResult:
    # NACK does not report a missing lease. EXTEND does, and keeps the lease until the NACK.
    held = await _extended(caller, meant, caller.lease_ms)
    given_back = []
    for msg_id in held:
        one = meant[msg_id]
        try:
            await caller.client.nack(
                one.mail_address,
                one.group_name,
                msg_id,
                batch=one.batch,
                delay_ms=seconds * 1000,
                consumer=one.consumer,
            )
        except MessageNotFound:
            continue  # deleted in between
        given_back.append(msg_id)
    _let_go(caller, meant, given_back)
    lost = await _lost(caller, _without(meant, given_back))
    return AckResult(
        mail_address=next(iter(meant.values())).mail_address, given_back=given_back, lost=lost
    )


async def _extend(caller: Caller, meant: dict[int, FetchedFrom], seconds: int | None) -> AckResult:
    total_ms = caller.kept_ms if seconds is None else seconds * 1000
    # Renewed leases are short, so that they end soon after a crash.
    is_renewed = caller.leases is not None and caller.kept_ms > caller.lease_ms
    lease_ms = min(total_ms, caller.lease_ms) if is_renewed else total_ms
    extended = await _extended(caller, meant, lease_ms)
    if caller.leases is not None:
        held = {msg_id: meant[msg_id] for msg_id in extended}
        caller.leases.extended(held, lease_ms, total_ms)
    until = (caller.client.clock.now_ms() + total_ms) // 1000
    lost = await _lost(caller, _without(meant, extended))
    return AckResult(
        mail_address=next(iter(meant.values())).mail_address,
        extended=extended,
        leased_seconds=total_ms // 1000 if extended else None,
        leased_until=time_at(until) if extended else None,
        lost=lost,
    )


async def _extended(caller: Caller, meant: dict[int, FetchedFrom], lease_ms: int) -> list[int]:
    """Renew the leases that are still held, and return whose those are."""
    extended: list[int] = []
    for consumer in dict.fromkeys(one.consumer for one in meant.values()):
        own = [msg_id for msg_id, one in meant.items() if one.consumer == consumer]
        place = meant[own[0]]
        for start in range(0, len(own), _MOST_EXTENDED):
            renewed = await caller.client.extend(
                place.mail_address,
                place.group_name,
                own[start : start + _MOST_EXTENDED],
                lease_ms=lease_ms,
                consumer=consumer or caller.consumer,
            )
            extended += renewed.extended
    return extended


def _without(meant: dict[int, FetchedFrom], dealt_with: Iterable[int]) -> dict[int, FetchedFrom]:
    done = set(dealt_with)
    return {msg_id: one for msg_id, one in meant.items() if msg_id not in done}


async def _lost(
    caller: Caller,
    missed: dict[int, FetchedFrom],
    refused: dict[int, MessageNotFound] | None = None,
) -> dict[int, str] | None:
    """Say why nothing could be done with some messages; None when there are none."""
    lost: dict[int, str] = {}
    for number, (msg_id, one) in enumerate(missed.items()):
        if refused is not None and msg_id in refused:
            why = str(refused[msg_id])
        elif number < _MOST_EXPLAINED:
            history = await history_of(caller, msg_id, one.mail_address, one.group_name)
            held = None if one.msg_ids else held_by_another(history, one.group_name, caller)
            why = held or (UNEXPLAINED if history is None else explained(history, one))
        else:
            why = UNEXPLAINED
        lost[msg_id] = why
    return lost or None
