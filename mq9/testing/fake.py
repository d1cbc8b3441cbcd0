"""The real broker on a private file, under a manual clock, with faults on request."""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack, cast
from weakref import WeakKeyDictionary

from mq9.broker.asked import BrokerSession, LocalRequest
from mq9.broker.embedded import EmbeddedBroker
from mq9.client.client import Mq9Client
from mq9.client.options import ClientOptions
from mq9.client.sync_client import SyncMq9Client
from mq9.clock import SteadyClock, sleep
from mq9.discovery.embeddings import Embeddings, checked
from mq9.discovery.index import AGENT_INDEX
from mq9.engine.commands import Limits
from mq9.errors import Mq9Error, NotConnected, OutcomeUnknown
from mq9.protocol import checks
from mq9.protocol.outcomes import Fetched, Reply
from mq9.protocol.requests import Fetch
from mq9.protocol.reserved import Reserved
from mq9.protocol.verbs import VERBS, Verb, verb_of
from mq9.storage import store
from mq9.storage.backend import Backend, InlineBackend
from mq9.testing.clock import ManualClock
from mq9.transport.direct import DirectTransport
from mq9.transport.open import share, unshare

R = TypeVar("R")

_NOT_OPEN = "the fake broker is not open; use `with FakeBroker() as broker`"


class FakeBroker:
    """A broker for tests: the real one, deterministic, on its own file.

    Use it as a context manager, with or without ``async``. No code in it sleeps: TTLs, delays,
    leases and long polls use ``clock``. The test advances it. By default it also jumps when no code
    can run. Clients connect by ``client()``, or by ``url`` from anywhere in the process.

    Args:
        start: The first instant, in seconds since the Unix epoch. Default: 1 800 000 000.
        limits: The limits of the broker. Default: those of a server.
        seed: The seed of ids and addresses. The same seed gives the same ones. Default: 0.
        path: The file, which is kept. Default: a temporary one.
        autojump: Whether the clock jumps to the next awaited instant when no code can run. Waits
            then end by themselves. Default: True.
        embeddings: The model for search by meaning. Default: search by words.

    Attributes:
        clock: The clock of this broker and its clients.
        url: The URL for ``Mq9Client`` and ``Mq9Toolkit`` while the broker is open.

    Example:
        ```python
        async with FakeBroker() as broker, broker.client() as client:
            await client.mailbox_create(name="garden")
        ```
    """

    _opened = 0

    def __init__(
        self,
        *,
        start: float = 1_800_000_000.0,
        limits: Limits = Limits(),
        seed: int = 0,
        path: Path | None = None,
        autojump: bool = True,
        embeddings: Embeddings | None = None,
    ) -> None:
        FakeBroker._opened += 1
        self._name = f"fake-{FakeBroker._opened}"
        self.url = f"memory://{self._name}"
        self.clock = ManualClock(start, autojump=autojump)
        self._limits = limits
        self._embeddings = None if embeddings is None else checked("embeddings", embeddings)
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311  # repeatable, for tests
        self._randomness = self._random.randbytes
        self._path = path
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._running: tuple[EmbeddedBroker, InlineBackend] | None = None
        self._lost_replies: list[Verb] = []
        self._crash_after_fetch = False
        self._duplicate = False
        self._again: dict[str, Fetched] = {}
        self._kills: list[_Kill] = []
        self._delays: dict[Verb | None, float] = {}
        self._sessions: WeakKeyDictionary[Mq9Client, str] = WeakKeyDictionary()

    def __enter__(self) -> Self:
        if self._path is None:
            self._directory = tempfile.TemporaryDirectory(prefix="mq9-")
            self._path = Path(self._directory.name) / "mq9.db"
        elif self._path.exists():
            # Ids must not repeat: the broker would treat a new message as an old one.
            state = hashlib.sha256()
            # The writes of a killed broker are in the log.
            for part in (self._path, self._path.with_name(f"{self._path.name}-wal")):
                state.update(part.read_bytes() if part.exists() else b"")
            self._random.seed(f"{self._seed} {state.hexdigest()}")
        self.clock.hold_for_this_thread()
        self._start()
        share(self._name, self)
        return self

    def __exit__(self, *exception: object) -> None:
        unshare(self._name)
        self._stop()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = self._path = None

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        self.__exit__()

    @property
    def path(self) -> Path | None:
        """The file of its state. None while it is closed, unless you passed ``path``."""
        return self._path

    @property
    def waiting(self) -> int:
        """Number of FETCHes and stateless reads that wait for messages. 0 while it is closed."""
        broker = self._open_broker()
        return 0 if broker is None else broker.waiting

    def client(self, *, agent: str | None = None, **options: Unpack[ClientOptions]) -> Mq9Client:
        """Return a connected client. Use it at once, or as a context manager.

        Args:
            agent: The agent that the client authenticates as. Default: none.
            options: Further arguments of ``Mq9Client``. Default of ``reconnect_delay``: 0 seconds.

        Example:
            ```python
            async with broker.client(agent="ada") as client:
                await client.send("garden", "Cut the hedge.", delay=60)
            ```
        """
        consumer = f"session.{self._randomness(8).hex()}"
        agents = options.get("agents")
        reserved = None if agents is None else Reserved(agents)
        transport = DirectTransport(self, BrokerSession(consumer, agent, reserved))
        chosen: ClientOptions = {
            "randomness": self._randomness,
            "reconnect_delay": 0.0,
            **options,
            "agents": None,  # the session knows them
        }
        client = Mq9Client(self.url, transport=transport, **chosen)
        self._sessions[client] = consumer
        return client

    async def restart(self) -> None:
        """Kill the broker and start it again on the same file.

        The results of answered requests stay. Open requests get no reply.

        Example:
            ```python
            await broker.restart()
            ```
        """
        self._stop()
        self._start()

    def lose_next_reply(self, verb: str = "MSG.SEND") -> None:
        """Carry out the next request of this verb, and lose its reply.

        The client repeats it if that is safe. Otherwise it raises ``OutcomeUnknown``.

        Args:
            verb: The verb of the protocol, such as ``MAILBOX.CREATE``. Default: ``MSG.SEND``.

        Raises:
            ValueError: The verb does not exist.

        Example:
            ```python
            broker.lose_next_reply()
            await client.send("garden", "Stored once.")  # the client repeats it
            ```
        """
        self._lost_replies.append(_verb(verb))

    def crash_after_next_fetch(self) -> None:
        """Crash the broker after the next FETCH that leases messages, before it replies.

        It starts again at once. The leases stay. If the client repeats the request, it gets the
        same batch.

        Example:
            ```python
            broker.crash_after_next_fetch()
            await client.fetch("garden", group_name="helpers")
            ```
        """
        self._crash_after_fetch = True

    def duplicate_next_delivery(self) -> None:
        """Deliver the next FETCH reply with messages twice.

        The next FETCH of the same mailbox, from any client, gets the same reply again, even if its
        messages were acked in between. At-least-once delivery allows this.

        Example:
            ```python
            broker.duplicate_next_delivery()
            first = await client.fetch("garden", group_name="helpers")
            assert await client.fetch("garden", group_name="helpers") == first
            ```
        """
        self._duplicate = True

    def kill(self, client: Mq9Client | SyncMq9Client) -> None:
        """Stop a client at once, as if SIGKILL had killed its process.

        Its consumers and requests end without a further request to the broker. Messages are neither
        acked nor given back. The groups deliver them again when the leases end. Handlers that are
        coroutines are cancelled. A plain function runs on, and its calls of the client fail. A
        handler that kills its own client ends at its next ``await``.

        Args:
            client: An ``Mq9Client``, on whose event loop you call this, or a ``SyncMq9Client``.

        Example:
            ```python
            broker.kill(client)
            ```
        """
        client.abort()

    def kill_before(self, client: Mq9Client, verb: str, *, count: int = 1) -> None:
        """Kill a client when it makes a request, before the broker carries it out.

        Use it to let a consumer die after its handler has returned.

        Args:
            client: The client.
            verb: The verb of the protocol, such as ``MSG.ACK`` or ``MSG.SEND``.
            count: The number of the request among its coming requests of that verb. Default: 1,
                the next one.

        Raises:
            ValueError: The verb does not exist, or ``count`` is not positive.

        Example:
            ```python
            broker.kill_before(client, "MSG.ACK")
            ```
        """
        self._order(client, verb, count, is_after=False)

    def kill_after(self, client: Mq9Client, verb: str, *, count: int = 1) -> None:
        """Kill a client after the broker has carried out its request, before it gets the reply.

        Use it to let a consumer die after its answer, before its ack.

        Args:
            client: The client.
            verb: The verb of the protocol. A FETCH counts if it returns messages.
            count: The number of the request among its coming requests of that verb. Default: 1,
                the next one.

        Raises:
            ValueError: The verb does not exist, or ``count`` is not positive.

        Example:
            ```python
            broker.kill_after(client, "MSG.SEND")
            ```
        """
        self._order(client, verb, count, is_after=True)

    def _order(self, client: Mq9Client, verb: str, count: int, *, is_after: bool) -> None:
        if count < 1:
            raise ValueError(f"count: {count} is not a positive number")
        session = self._sessions.get(client, client.consumer)
        self._kills.append(_Kill(client, (session, _verb(verb), is_after), count))

    def _kill_at(self, session: str, verb: Verb, *, is_after: bool) -> bool:
        """Count a request, and return whether its client was killed at it."""
        ordered = [one for one in self._kills if one.at == (session, verb, is_after)]
        for kill in ordered:
            kill.left -= 1
        due = [one for one in ordered if one.left == 0]
        for kill in due:
            self._kills.remove(kill)
            kill.client.abort()
        return bool(due)

    def slow_down(self, seconds: float, verb: str | None = None) -> None:
        """Delay replies from now on, by the clock. The broker carries out requests at once.

        A client measures its ``request_timeout`` in real time, so it does not expire.

        Args:
            seconds: The delay in seconds. 0 ends it.
            verb: The verb of these requests. Default: all without a delay of their own.

        Raises:
            ValueError: The verb does not exist.
            InvalidRequest: ``seconds`` is not a number of seconds.

        Example:
            ```python
            broker.slow_down(5, "MSG.SEND")
            ```
        """
        self._delays[None if verb is None else _verb(verb)] = checks.seconds()("seconds", seconds)

    async def carry_out(self, request: LocalRequest[R]) -> Reply[R]:
        """Carry out one request, or the fault that is set for it.

        Args:
            request: The request of a client of this broker.

        Raises:
            Mq9Error: The broker refused the request.
            NotConnected: The broker is not open.
            OutcomeUnknown: The reply is lost.
        """
        verb, session = verb_of(type(request.body)), request.session.consumer
        broker = self._open_broker()
        if broker is None:
            raise NotConnected(_NOT_OPEN)
        if self._kill_at(session, verb, is_after=False):
            await _end_with_client()
        if verb.request is Fetch and request.mail_address in self._again:
            return Reply(cast("R", self._again.pop(request.mail_address)))
        try:
            reply = await broker.carry_out(request)
        except Mq9Error:
            await self._after(broker, session, verb, None, is_refused=True)
            raise
        await self._after(broker, session, verb, reply.outcome)
        return reply

    async def _after(
        self,
        broker: EmbeddedBroker,
        session: str,
        verb: Verb,
        outcome: Any,
        *,
        is_refused: bool = False,
    ) -> None:
        """Apply the fault that is set for a reply."""
        if self._open_broker() is not broker:
            raise OutcomeUnknown("the broker was restarted; the outcome is unknown")
        fetched = outcome if isinstance(outcome, Fetched) else None
        counts = not is_refused and (fetched is None or bool(fetched.messages))
        if counts and self._kill_at(session, verb, is_after=True):
            await _end_with_client()
        delay = self._delays.get(verb, self._delays.get(None, 0.0))
        if delay:
            await sleep(self.clock, delay)
        if verb in self._lost_replies:
            self._lost_replies.remove(verb)
            raise OutcomeUnknown(f"the reply to {verb.name} was lost; the outcome is unknown")
        if fetched is None:
            return
        if self._duplicate and fetched.messages:
            self._duplicate = False
            self._again[fetched.mail_address] = fetched
        if self._crash_after_fetch and fetched.batch:
            self._crash_after_fetch = False
            await self.restart()
            raise OutcomeUnknown("the broker crashed; the outcome is unknown")

    def _open_broker(self) -> EmbeddedBroker | None:
        return None if self._running is None else self._running[0]

    def _start(self) -> None:
        path = self._path
        assert path is not None  # noqa: S101  # set on entering
        backend: InlineBackend

        def make_backend(steady: SteadyClock, _: Callable[[str | None], None]) -> Backend:
            nonlocal backend
            backend = InlineBackend(store.open_file(path), steady, self._limits, AGENT_INDEX)
            return backend

        broker = EmbeddedBroker(
            make_backend, self.clock, self._randomness, embeddings=self._embeddings
        )
        self._running = broker, backend

    def _stop(self) -> None:
        if self._running is not None:
            broker, backend = self._running
            self._running = None
            backend.close_now()
            broker.closed()


@dataclass(slots=True)
class _Kill:
    client: Mq9Client
    at: tuple[str, Verb, bool]  # session, verb, and whether after the request
    left: int


def _verb(name: str) -> Verb:
    """Return the verb with a name."""
    if name not in VERBS:
        raise ValueError(f"verb: {name!r} is not one of {', '.join(VERBS)}")
    return VERBS[name]


async def _end_with_client() -> None:
    """Wait for the end of a request of a killed client."""
    await asyncio.get_running_loop().create_future()
