"""People who use the desk, and the clients that make their requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from mq9 import address as addresses
from mq9.client.client import Mq9Client
from mq9.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Person:
    """A person at the desk.

    Attributes:
        name: Their name, the sender of their messages.
        mail_address: The mailbox of their questions; None for a name without an address.
        reads_only: Whether they may change nothing.
        is_verified: Whether the broker authenticates them; otherwise the name is a claim.
        identity: Their identity at the broker; None for no agent. Two persons with one name may
        have
            different ones, and so different rights.
    """

    name: str
    mail_address: str | None
    reads_only: bool = False
    is_verified: bool = False
    identity: Any = None

    @classmethod
    def named(cls, name: str, **more: Any) -> Person:
        """Return a person whose mailbox is the slug of the name."""
        try:
            mail_address = addresses.slug(name)
        except InvalidRequest:
            mail_address = None
        return cls(name, mail_address, **more)


class Admission(Protocol):
    """Says who may use the desk, and connects for them."""

    @property
    def has_login(self) -> bool:
        """Whether people log in by a form; else a link lets the only person in."""

    async def log_in(self, credentials: Mapping[str, Any], address: str) -> Person:
        """Return whose credentials these are; raises Unauthorized."""

    def connect(self, person: Person) -> Mq9Client:
        """Return a client that makes requests as this person; not yet open."""


class OnePerson:
    """Admits the person who started the desk."""

    has_login = False

    def __init__(self, connect: Callable[[], Mq9Client]) -> None:
        self._connect = connect

    async def log_in(self, _credentials: Mapping[str, Any], _address: str) -> Person:
        """Refuse: there is a link instead."""
        raise InvalidRequest("login: this desk is opened by the link that `mq9 desk` prints")

    def connect(self, _person: Person) -> Mq9Client:
        """Return a client of the desk's broker."""
        return self._connect()


class Clients:
    """The open clients of people, one each, while the desk runs."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._open: dict[Person, Mq9Client] = {}
        self._opening = asyncio.Lock()

    async def of(self, person: Person) -> Mq9Client:
        """Return the client of a person, opened when it is first needed."""
        async with self._opening:
            client = self._open.get(person)
            if client is None:
                client = self._admission.connect(person)
                await client.open()
                self._open[person] = client
        return client

    async def close_of(self, person: Person) -> None:
        """Close the client of a person without a session."""
        client = self._open.pop(person, None)
        if client is not None:
            await client.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close all clients at the end."""
        try:
            yield
        finally:
            for person in list(self._open):
                await self.close_of(person)
