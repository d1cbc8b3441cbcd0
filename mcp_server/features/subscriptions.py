"""Subscriptions: clients are notified of new mail in the mailboxes that they name."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio
import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError

from mcp_server.callers import Callers, Context
from mcp_server.features.resources import mailbox_of
from mq9 import Deliver, Forbidden, LimitReached, MailboxNotFound, Mq9Client, Mq9Error
from mq9.clock import sleep
from mq9.operations.caller import Caller
from mq9.operations.execution import OperationError, explained
from mq9.operations.query import query_messages

_logger = logging.getLogger("mq9.mcp")

_POLL_MS = 45_000
_FIRST_DELAY_S = 1.0  # after a failure; doubled after each further one
_MAX_DELAY_S = 60.0
MAX_WATCHED = 100  # mailboxes, for one agent
_STATE = "mq9.watched"

Notify = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Watch:
    """A task that watches a mailbox, and whether it has begun to."""

    task: asyncio.Task[None]
    begun: asyncio.Future[None]


async def watch(client: Mq9Client, mail_address: str, next_id: int, notify: Notify) -> None:
    """Notify of new mail, once for messages that come together, until the mailbox is gone."""
    delay = _FIRST_DELAY_S
    while True:
        began_ms = client.clock.monotonic_ms()
        try:
            # Without a group nothing is stored. Mail since the last look is found at once.
            found = await client.fetch(
                mail_address,
                deliver=Deliver.FROM_ID,
                from_id=next_id,
                num_msgs=1,
                max_bytes=1,
                max_wait_ms=_POLL_MS,
            )
            if found:
                next_id = await end_of(client, mail_address)
                await notify()
            elif client.clock.monotonic_ms() - began_ms < _POLL_MS:
                await sleep(client.clock, delay)  # a broker that is about to stop answers at once
                continue
            delay = _FIRST_DELAY_S
        except (MailboxNotFound, Forbidden):
            await notify()
            return
        except Mq9Error as error:
            _logger.info("%s cannot be watched: %s; again in %g s", mail_address, error, delay)
            await sleep(client.clock, delay)
            delay = min(2 * delay, _MAX_DELAY_S)


async def end_of(client: Mq9Client, mail_address: str) -> int:
    """Return a msg_id that is above all in a mailbox, and not above those to come."""
    newest = await client.query(mail_address, limit=1, max_bytes=1)
    return newest[-1].msg_id + 1 if newest else 0


class Subscriptions:
    """Answers subscriptions, in the current protocol and in the older one."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._watched: Counter[str] = Counter()

    async def listen(
        self, context: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve updates of the mailboxes that the agent may read, until the client ends it."""
        bus = InMemorySubscriptionBus()
        watches: dict[str, _Watch] = {}
        try:
            for uri in params.notifications.resource_subscriptions or ():
                address = mailbox_of(uri)
                if address is None or uri in watches:
                    continue
                try:
                    await self._begin(
                        context, watches, uri, address, partial(bus.publish, ResourceUpdated(uri))
                    )
                except OperationError as error:
                    _logger.info("%s is not watched: %s", uri, error)
            honored = types.SubscriptionFilter(resource_subscriptions=list(watches) or None)
            return await ListenHandler(bus)(
                context, params.model_copy(update={"notifications": honored})
            )
        finally:
            await _end(watches)

    async def subscribe(
        self, context: Context, params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        """Notify a connected client of the older protocol of updates, which only mailboxes have."""
        address = mailbox_of(params.uri)
        if address is None:
            return types.EmptyResult()

        async def notify() -> None:
            await context.session.send_resource_updated(params.uri)

        try:
            await self._begin(context, self._watches(context), params.uri, address, notify)
        except OperationError as error:
            raise MCPError(types.INVALID_PARAMS, str(error), {"uri": params.uri[:500]}) from error
        return types.EmptyResult()

    async def unsubscribe(
        self, context: Context, params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        """End a subscription of a client; harmless when it has none."""
        watch_of_it = self._watches(context).pop(params.uri, None)
        if watch_of_it is not None:
            await _end({params.uri: watch_of_it})
        return types.EmptyResult()

    def _watches(self, context: Context) -> dict[str, _Watch]:
        """Return the watched mailboxes of a client, by URI; they end with the connection."""
        connection: Connection = context.session._connection  # noqa: SLF001  # it is not public
        watches: dict[str, _Watch] | None = connection.state.get(_STATE)
        if watches is None:
            watches = connection.state[_STATE] = {}
            connection.exit_stack.push_async_callback(_end, watches)
        return watches

    async def _begin(
        self, context: Context, watches: dict[str, _Watch], uri: str, address: str, notify: Notify
    ) -> None:
        """Begin to watch a mailbox, unless that is going on; mail from now on is notified."""
        found = watches.get(uri)
        if found is None or found.task.done():
            found = watches[uri] = self._start(context, address, notify)
        try:
            await asyncio.wait([found.task, found.begun], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not found.begun.done():  # it failed, or no client waits for it
                found.task.cancel()
                if watches.get(uri) is found:
                    del watches[uri]
        if found.task.cancelled():
            raise OperationError("watching it was ended meanwhile; subscribe again", "error")
        if not found.begun.done():
            found.task.result()

    def _start(self, context: Context, address: str, notify: Notify) -> _Watch:
        agent = self._callers.identity().name
        if self._watched[agent] >= MAX_WATCHED:
            raise OperationError(
                f"{MAX_WATCHED} mailboxes are watched for {agent} already", LimitReached.code
            )
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(context, address, notify, begun))
        self._watched[agent] += 1
        task.add_done_callback(partial(self._ended, agent))
        return _Watch(task, begun)

    def _ended(self, agent: str, task: asyncio.Task[None]) -> None:
        self._watched[agent] -= 1
        if not self._watched[agent]:
            del self._watched[agent]
        if not task.cancelled():
            task.exception()  # it was raised where the watch was begun

    async def _run(
        self, context: Context, address: str, notify: Notify, begun: asyncio.Future[None]
    ) -> None:
        async with self._callers.calling(context) as caller:
            try:
                next_id = await _look(caller, address)
            except Mq9Error as error:
                raise explained(error, query_messages, caller.tools) from error
            begun.set_result(None)
            await watch(caller.client, address, next_id, notify)


async def _look(caller: Caller, mail_address: str) -> int:
    """Return where new mail begins in a mailbox that the caller may look into."""
    query_messages.check_allowed(caller)
    address = await caller.mailbox_to_read(mail_address)
    await caller.ensure_mailbox()
    return await end_of(caller.client, address)


async def _end(watches: dict[str, _Watch]) -> None:
    ending = [one.task for one in watches.values()]
    watches.clear()
    for task in ending:
        task.cancel()
    if ending:
        with anyio.CancelScope(shield=True):
            await asyncio.wait(ending)
