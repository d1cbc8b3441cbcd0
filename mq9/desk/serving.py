"""The desk on the admin port of ``mq9 serve``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute

from mq9.client.client import Mq9Client
from mq9.clock import SystemClock
from mq9.desk.app import Desk, make_routes
from mq9.desk.people import Admission, OnePerson, Person
from mq9.desk.screens import ROUTES
from mq9.models import Role
from mq9.protocol import checks
from mq9.server.users import Admitted, Users

if TYPE_CHECKING:  # it needs the extra `server`
    from mq9.cli.serve import RouteContext


class KnownUsers:
    """Admits the users of a users file."""

    has_login = True

    def __init__(self, users: Users, context: RouteContext) -> None:
        self._users = users
        self._context = context

    async def log_in(self, credentials: Mapping[str, Any], address: str) -> Person:
        """Return whose credentials these are."""
        who = await self._users.admit(credentials, address)
        name = who.agent or credentials.get("user") or str(who.role)
        is_reader = who.role is Role.READER
        return Person.named(name, is_verified=True, reads_only=is_reader, identity=who)

    def connect(self, person: Person) -> Mq9Client:
        """Return a client of the server's broker."""
        return self._context.connect(person.identity)


@asynccontextmanager
async def make_desk_routes(context: RouteContext) -> AsyncIterator[tuple[Sequence[BaseRoute], str]]:
    """Make the routes of the desk, served while inside; and the query of the link, if any."""
    users, name = context.users, context.desk_as
    admission: Admission
    if users is not None:
        admission, only = KnownUsers(users, context), None
    else:
        only = Person.named(checks.agent_name("desk-as", name))
        admission = OnePerson(lambda: context.connect(Admitted()))
    desk = Desk(admission, SystemClock(), only=only, hosts=(context.host, *context.desk_hosts))

    async def end_revoked() -> None:
        """End the sessions of users that were removed or changed."""
        if users is not None:
            for person in desk.sessions.end_unless(lambda one: users.knows(one.identity)):
                await desk.clients.close_of(person)

    context.on_users.append(end_revoked)
    async with desk.clients.running():
        yield make_routes(desk, ROUTES), "" if only is None else f"/enter?link={desk.link.renew()}"
