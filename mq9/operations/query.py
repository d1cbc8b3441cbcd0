"""The operation that looks: at the messages of a mailbox, and at what became of sent ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mq9.errors import BadReply, Forbidden, InvalidRequest, MailboxNotFound
from mq9.models import FetchResult, Message, Sent
from mq9.operations.answers import answered
from mq9.operations.caller import Caller
from mq9.operations.identity import MAX_WAIT_S
from mq9.operations.leases import FetchedFrom, is_of
from mq9.operations.mail import readers_of
from mq9.operations.message_views import MessageView, time_at, unix_seconds, views, visible
from mq9.operations.operation import (
    Arguments,
    CorrelationIds,
    Key,
    MaxChars,
    OwnMailbox,
    Result,
    Since,
    Tags,
    operation,
)
from mq9.operations.senders import senders_of
from mq9.protocol.checks import MAX_MSG_ID

_SHOWN = 20  # messages, default
_States = Literal["new", "held", "acked"]
_STATES = {"new": "pending", "held": "leased", "acked": "acked"}


class QueryArguments(Arguments):
    """Arguments of query_messages."""

    mail_address: OwnMailbox = None
    sent: Annotated[
        bool | None,
        Field(description="Instead of mail: what you sent, and what became of it."),
    ] = None
    state: Annotated[_States | None, Field(description="Only messages in this state.")] = None
    correlation_ids: Annotated[CorrelationIds, Field(description="Only messages with these.")] = (
        None
    )
    key: Annotated[Key, Field(description="Only the message with this key.")] = None
    tags: Annotated[Tags, Field(description="Only messages with all of these tags.")] = None
    since: Since = None
    msg_id: Annotated[int | None, Field(ge=0, le=MAX_MSG_ID, description="Only this message.")] = (
        None
    )
    before_id: Annotated[
        int | None, Field(ge=0, le=MAX_MSG_ID, description="Only messages before this msg_id.")
    ] = None
    limit: Annotated[
        int | None, Field(ge=1, le=1_000, description="The newest so many; else 20.")
    ] = None
    wait_seconds: Annotated[
        int | None,
        Field(ge=0, le=MAX_WAIT_S, description="Wait until all correlation_ids are there; else 0."),
    ] = None
    max_chars: MaxChars = None

    @property
    def longest_wait_s(self) -> int:
        """For how many seconds it waits for answers."""
        return self.wait_seconds or 0


class SentView(BaseModel):
    """A message that the agent sent, and what became of it."""

    model_config = ConfigDict(frozen=True)

    mail_address: str
    msg_id: int | None = None
    delayed_id: int | None = Field(default=None, description="Of a message that is delayed.")
    correlation_id: str
    time: str = Field(description="When it was sent, UTC.")
    state: str = Field(description="delayed, waiting, published, fetched, acked or moved.")
    until: str | None = Field(
        default=None, description="Until when it is delayed, or leased to its reader, UTC."
    )
    delivery_count: int | None = None
    moved_to: str | None = Field(default=None, description="The mailbox of dead letters.")
    answered_by: int | None = Field(default=None, description="The msg_id of the answer.")
    answered_at: str | None = Field(default=None, description="The mailbox with the answer.")
    failed: str | None = Field(default=None, description="Why it failed, by its error answer.")


class QueryResult(Result):
    """Result of query_messages."""

    mail_address: str | None = None
    messages: list[MessageView] | None = Field(default=None, description="Oldest first.")
    sent: list[SentView] | None = Field(default=None, description="Newest first.")
    not_found: list[str] | None = Field(
        default=None, description="The correlation_ids with no message."
    )
    more: str | None = Field(default=None, description="Why not all that match are here.")


_REST = "call @query_messages with msg_id={msg_id}, max_chars={chars}"


@operation(
    title="Look into a mailbox",
    description=(
        "Look at the stored messages of a mailbox, read ones included, without taking them: "
        "nothing is leased and nothing has to be acked. Or look at what you sent."
        "[[ To work on messages use @fetch_messages.]]"
    ),
    read_only=True,
    idempotent=True,
)
async def query_messages(caller: Caller, arguments: QueryArguments) -> QueryResult:
    """Return stored or sent messages without leasing any."""
    if arguments.sent:
        return await _sent(caller, arguments)
    address, is_own = await caller.mailbox_to_look(arguments.mail_address)
    if arguments.state is not None and not is_own:
        raise InvalidRequest(f"state: how {address} is read concerns its owner; leave it out")
    wanted = arguments.correlation_ids or []
    if arguments.wait_seconds and not wanted:
        raise InvalidRequest("wait_seconds: say in correlation_ids what to wait for")
    if arguments.wait_seconds:
        seconds = min(arguments.wait_seconds, caller.max_wait_s)
        await answered(caller, [address], wanted, seconds)
    group = caller.group_to_use(None, address) if is_own else None
    max_chars = arguments.max_chars or caller.max_chars
    limit = arguments.limit or _SHOWN
    try:
        found = await _found(caller, address, arguments, group, limit, max_chars)
    except MailboxNotFound:
        own = caller.identity is not None and address == caller.identity.mail_address
        if not (own and caller.read_only):
            raise
        return QueryResult(mail_address=address, messages=[])  # who may only look has made none
    missing = [one for one in wanted if one not in {each.correlation_id for each in found}]
    now = caller.client.clock.now_ms() / 1000
    is_work = not await _is_published(caller, address)
    return QueryResult(
        mail_address=address,
        messages=views(
            found,
            max_chars,
            caller.tools.text(_REST),
            senders=await senders_of(caller, address, found),
            states={
                one.msg_id: _state(caller, one, group or "", now)
                for one in found
                if one.standing is not None and is_work
            },
        ),
        not_found=missing or None,
        more=_more(found, limit) if found.more else None,
    )


async def _is_published(caller: Caller, mail_address: str) -> bool:
    """Return whether the agent created a mailbox for others to look into."""
    identity = caller.identity
    if identity is None or mail_address == identity.mail_address:
        return False
    if mail_address not in identity.known_addresses:
        return False
    try:
        return bool(readers_of(await caller.client.mailbox_status(mail_address)))
    except (Forbidden, MailboxNotFound):
        return False  # it is another's now, or has expired


async def _found(
    caller: Caller,
    address: str,
    arguments: QueryArguments,
    group: str | None,
    limit: int,
    max_chars: int,
) -> FetchResult:
    """Find what matches, under each correlation id if there are some."""
    since = None if arguments.since is None else unix_seconds("since", arguments.since)
    state = None if arguments.state is None else _STATES[arguments.state]
    found: list[Message] = []
    more = False
    wanted: list[str | None] = [*dict.fromkeys(arguments.correlation_ids or ())]
    for which in wanted or [None]:
        ask = partial(
            caller.client.query,
            address,
            key=arguments.key,
            tags=arguments.tags,
            correlation_id=which,
            since=since,
            limit=limit,
            msg_id=arguments.msg_id,
            max_bytes=max_chars,
        )
        try:
            matching = await ask(before_id=arguments.before_id, group_name=group, state=state)
        except BadReply:
            if state is not None or arguments.before_id is not None:
                raise
            # A broker without states of messages still returns the messages.
            matching = await ask()
        found += matching
        more = more or matching.more
    found.sort(key=lambda one: one.msg_id)
    return FetchResult(found[-limit:], more=more or len(found) > limit)


def _more(found: Sequence[Message], limit: int) -> str:
    first = found[0].msg_id
    cause = f"the newest {limit}" if len(found) == limit else "cut by max_chars"
    return f"{cause}; older ones match as well: call again with before_id={first}"


def _state(caller: Caller, message: Message, group: str, now: float) -> str:
    """Say how a message stands with the agent."""
    standing = message.standing
    assert standing is not None  # noqa: S101  # asked for by the group's name
    left = "" if standing.until is None else f" for {max(1, round(standing.until - now))} s more"
    match standing.state:
        case "leased":
            consumer = standing.consumer or ""
            place = FetchedFrom(message.mail_address, group, consumer)
            if standing.until is not None:
                left = f" for {caller.seconds_left(place, message.msg_id, standing.until)} s more"
            return f"held by {_holder(caller, consumer)}{left}"
        case "given_back":
            return f"given back, for nobody{left}"
        case "pending":
            return "new" if not standing.deliveries else "to be delivered again"
        case "skipped":
            return "older than what you read"
        case "moved":
            return f"moved to {standing.moved_to}"
        case other:
            return other


def _holder(caller: Caller, consumer: str) -> str:
    if is_of(consumer, caller.consumer):
        return "you"
    return (
        "another session of yours" if consumer.startswith(caller.sessions) else "another consumer"
    )


async def _sent(caller: Caller, arguments: QueryArguments) -> QueryResult:
    """Return the sent messages of the agent, and their states."""
    for name in ("mail_address", "state", "key", "tags", "since", "msg_id", "before_id"):
        if getattr(arguments, name) is not None:
            raise InvalidRequest(f"{name}: with sent only correlation_ids and limit choose")
    wanted = arguments.correlation_ids
    try:
        page = await caller.client.sent(
            sender=caller.require_identity().name,
            correlation_ids=wanted,
            limit=arguments.limit or _SHOWN,
        )
    except Forbidden:
        if wanted is not None:
            raise
        raise InvalidRequest(
            "correlation_ids: this broker lists what was sent only to agents that have "
            "authenticated; name the correlation_id of each message"
        ) from None
    listed = {one.correlation_id for one in page.sent}
    waiting = {one.mail_address for one in page.sent if one.state == "waiting"}
    published = {address for address in waiting if await _is_published(caller, address)}
    return QueryResult(
        sent=[_view(one, published) for one in page.sent],
        not_found=[one for one in wanted or () if one not in listed] or None,
        more="older ones: raise limit, or give correlation_ids" if page.more else None,
    )


def _view(one: Sent, published: Collection[str]) -> SentView:
    until = one.due if one.until is None else one.until
    answer = one.answer
    return SentView(
        mail_address=one.mail_address,
        msg_id=one.msg_id,
        delayed_id=one.delayed_id,
        correlation_id=visible(one.correlation_id),
        time=time_at(int(one.sent)),
        state="published"
        if one.state == "waiting" and one.mail_address in published
        else one.state,
        until=None if until is None else time_at(int(until)),
        delivery_count=one.deliveries or None,
        moved_to=one.moved_to,
        answered_by=None if answer is None else answer.msg_id,
        answered_at=None if answer is None else answer.mail_address,
        failed=None if answer is None or answer.code is None else visible(answer.code),
    )
