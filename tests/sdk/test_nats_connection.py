"""The connection to a server, by scripts of what a server says and when."""

import asyncio
import gc
import ssl
from contextlib import asynccontextmanager, suppress

import pytest
import trustme
from waiting import until

from mq9 import Forbidden, OutcomeUnknown, Unauthorized, Unreachable
from mq9.protocol.requests import Fetch, ListPublic, Release, Status
from mq9.transport import nats_connection
from mq9.transport.nats import NatsTransport
from mq9.transport.servers import parse
from mq9.wire.parser import Connect, Parser, Ping, Pong, Publish, Subscribe, Unsubscribe

OURS = b'INFO {"max_payload":1000,"max_message":1100}\r\n'
OTHERS = b'INFO {"max_payload":1000}\r\n'
REPLY = b'{"error":"","mailboxes":[]}'


class Peer:
    """A server of one client, which a test has say what it says.

    Attributes:
        heard: The frames of the client that no `next` has returned.
        is_over: Whether the client has left.
    """

    def __init__(self, reader, writer):
        self._reader, self.writer = reader, writer
        self._parser = Parser(1024 * 1024)
        self.heard = []
        self.is_over = False

    def say(self, data):
        self.writer.write(data)

    async def next(self, kind):
        """Return the next frame of a kind; what came before it is passed over."""
        while True:
            while self.heard:
                frame = self.heard.pop(0)
                if isinstance(frame, kind):
                    return frame
            await self.read()
            assert not self.is_over or self.heard, f"the client has left without a {kind}"

    async def read(self):
        """Read what there is."""
        data = await self._reader.read(64 * 1024)
        self.is_over = not data
        self.heard += self._parser.feed(data)
        assert self._parser.error is None

    async def welcome(self, info=OURS):
        """Let the client in; its CONNECT."""
        self.say(info)
        connect = await self.next(Connect)
        await self.next(Ping)
        self.say(b"PONG\r\n")
        return connect

    def answer(self, asked, payload=REPLY):
        self.say(b"MSG %b 1 %d\r\n%b\r\n" % (asked.reply.encode(), len(payload), payload))


@asynccontextmanager
async def listening(script):
    """Have a script answer every connection to a port; the port, and the peers that came."""
    came = []

    async def serve(reader, writer):
        peer = Peer(reader, writer)
        came.append(peer)
        try:
            await script(peer)
            while not peer.is_over:
                await peer.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()
        await until(lambda: all(peer.is_over or peer.writer.is_closing() for peer in came))


@asynccontextmanager
async def meet(script, options="", scheme="nats"):
    """Have a transport connect to a script; it, and the peers that it came to."""
    async with listening(script) as (port, came):
        transport = NatsTransport(parse(f"{scheme}://127.0.0.1:{port}{options}"), "agent-7")
        try:
            yield transport, came
        finally:
            await transport.close()


def listing(transport, timeout=10):
    return transport.request(ListPublic(), "", None, None, timeout)


async def test_what_a_client_says_when_it_comes():
    told = []

    async def script(peer):
        told.append(await peer.welcome())
        told.append(await peer.next(Subscribe))
        asked = await peer.next(Publish)
        told.append(asked)
        peer.answer(asked)

    async with meet(script, scheme="nats") as (transport, _):
        await listing(transport)
    connect, subscribe, asked = told
    assert connect.options["name"] == "agent-7"
    assert connect.options["headers"]
    assert connect.options["no_responders"]
    assert not connect.options["verbose"]
    assert not {"user", "pass", "auth_token", "jwt", "nkey", "sig"} & connect.options.keys()
    assert subscribe.subject == f"{asked.reply.rpartition('.')[0]}.*"
    assert asked.subject == "$mq9.AI.PUBLIC.LIST"


async def test_requests_of_one_turn_leave_in_one_write(monkeypatch):
    async with meet(answer_all) as (transport, _):
        await listing(transport)
        writes = []
        connection = transport._link._connection  # noqa: SLF001  # nothing else tells of writes
        socket = connection._transport  # noqa: SLF001
        monkeypatch.setattr(connection, "_transport", Noting(socket, writes))
        await asyncio.gather(*(listing(transport) for _ in range(20)))
        assert [data.count(b"PUB ") for data in writes] == [20]


class Noting:
    """A transport of asyncio's that notes what is written."""

    def __init__(self, transport, writes):
        self._transport, self._writes = transport, writes

    def write(self, data):
        self._writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name):
        return getattr(self._transport, name)


@pytest.mark.parametrize("info", [OURS, OTHERS])
async def test_a_request_that_is_given_up_takes_its_inbox_along(info):
    heard = []

    async def script(peer):
        await peer.welcome(info)
        while not peer.is_over:
            await peer.read()
            heard.extend(peer.heard)
            peer.heard.clear()

    async with meet(script) as (transport, _):
        asking = asyncio.create_task(transport.request(Fetch(), "inbox", None, None, 10))
        await until(lambda: any(isinstance(one, Publish) for one in heard))
        asked = heard[-1]
        [own] = [one for one in heard if isinstance(one, Subscribe) and one.subject == asked.reply]
        assert Unsubscribe(own.sid, 1) in heard
        asking.cancel()
        await until(lambda: heard[-1] == Unsubscribe(own.sid, None))
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_what_was_said_before_a_close_arrives():
    heard = []

    async def script(peer):
        await peer.welcome()
        heard.append(await peer.next(Publish))

    async with meet(script) as (transport, _):
        await transport.open()
        await transport.abandon(Release(consumer="c", group_name="g", request_id="r"), "inbox")
        await transport.close()
        await until(lambda: heard)
    assert heard[0].subject == "$mq9.AI.MSG.RELEASE.inbox"


async def test_a_reply_of_another_subscription_is_taken_by_its_subject():
    """As RobustMQ's, which bear the subscription 0."""

    async def script(peer):
        await peer.welcome(OTHERS)
        asked = await peer.next(Publish)
        inbox = asked.reply.encode()
        peer.say(b"MSG _INBOX.other 1 2\r\n{}\r\n")
        peer.say(b"MSG %b 0 %d\r\n%b\r\n" % (inbox, len(REPLY), REPLY))
        peer.say(b"MSG %b 0 2\r\n{}\r\n" % inbox)  # nobody waits for another one

    async with meet(script) as (transport, _):
        assert (await listing(transport)).outcome.mailboxes == ()


async def test_a_ping_is_answered():
    ponged = asyncio.Event()

    async def script(peer):
        await peer.welcome()
        peer.say(b"PING\r\n")
        await peer.next(Pong)
        ponged.set()

    async with meet(script) as (transport, _):
        await transport.open()
        async with asyncio.timeout(10):
            await ponged.wait()


@pytest.mark.parametrize("lives", [True, False])
async def test_a_connection_whose_pings_are_unanswered_is_broken(monkeypatch, lives):
    monkeypatch.setattr(nats_connection, "PING_INTERVAL_S", 0.01)
    pings = []

    async def script(peer):
        await peer.welcome()
        asked = await peer.next(Publish)
        for _ in range(10):
            pings.append(await peer.next(Ping))
            if lives:
                peer.say(b"PONG\r\n")
        peer.answer(asked)

    async with meet(script) as (transport, _):
        if lives:
            await listing(transport)
        else:
            with pytest.raises(OutcomeUnknown, match="before the connection broke"):
                await listing(transport)
            assert len(pings) == 2


async def test_who_may_not_hear_replies_is_told_of_every_request():
    async def script(peer):
        await peer.welcome()
        listened = await peer.next(Subscribe)
        await peer.next(Publish)
        peer.say(
            b"-ERR 'Permissions Violation for Subscription to \"%b\"'\r\n"
            % listened.subject.encode()
        )

    async with meet(script) as (transport, came):
        for _ in range(2):  # the second one is not sent
            with pytest.raises(Forbidden, match="permissions violation for subscription"):
                await listing(transport)
        assert len(came) == 1


async def test_what_may_not_be_sent_ends_only_requests_for_that():
    async def script(peer):
        await peer.welcome()
        first, second = await peer.next(Publish), await peer.next(Publish)
        peer.say(b"-ERR 'Permissions Violation for Publish to \"%b\"'\r\n" % first.subject.encode())
        peer.answer(second)

    async with meet(script) as (transport, _):
        refused, answered = await asyncio.gather(
            transport.request(Status(), "box", None, None, 10),
            listing(transport),
            return_exceptions=True,
        )
        assert type(refused) is Forbidden
        assert answered.outcome.mailboxes == ()


@pytest.mark.parametrize(
    "said", [b"-ERR 'Stale Connection'\r\n", b"WHAT\r\n", b"MSG a 1 99999999999\r\n", b"MSG a\r\n"]
)
async def test_what_ends_a_connection_ends_its_requests_at_once(said):
    async def script(peer):
        await peer.welcome()
        await peer.next(Publish)
        peer.say(said)

    async with meet(script) as (transport, came):
        for number in range(1, 3):  # the second one by a new connection
            with pytest.raises(OutcomeUnknown, match="before the connection broke"):
                await listing(transport)
            assert len(came) == number
            await until(lambda: all(peer.is_over for peer in came))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"Authorization Violation", Unauthorized),
        (b"User Authentication Expired", Unauthorized),
        (b"Account Authentication Expired", Unauthorized),
        (b"Authentication Timeout", Unreachable),
        (b"maximum connections exceeded", Unreachable),
    ],
)
async def test_what_a_server_refuses_a_login_for_is_told(said, error):
    async def script(peer):
        peer.say(OTHERS)
        await peer.next(Ping)
        peer.say(b"-ERR '%b'\r\n" % said)

    async with meet(script) as (transport, _):
        with pytest.raises(error):
            await listing(transport)


async def test_nothing_in_clear_may_stand_in_front_of_tls(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def script(peer):
        peer.say(b'INFO {"tls_required":true}\r\nMSG half a mess')

    async with meet(script, f"?tls_ca={tmp_path / 'ca.pem'}", "tls") as (transport, came):
        with pytest.raises(Unreachable, match="bytes in clear in front of TLS"):
            await listing(transport)
        assert came[0].heard == []


async def test_tls_is_begun_where_it_is_offered_only(tmp_path):
    """A server that takes clients with and without TLS offers it, and does not insist."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)

    async def script(peer):
        peer.say(b'INFO {"tls_available":true}\r\n')
        await peer.writer.drain()
        await peer.writer.start_tls(context)
        connect = await peer.next(Connect)
        assert connect.options["tls_required"]
        peer.say(b"PONG\r\n")
        peer.answer(await peer.next(Publish))

    async with meet(script, f"?tls_ca={tmp_path / 'ca.pem'}", "tls") as (transport, _):
        await listing(transport)


async def asked_twice(first, second):
    """Ask two servers by their scripts, twice; how often each was connected to."""
    async with listening(first) as (port, of_first), listening(second) as (other, of_second):
        transport = NatsTransport(parse(f"nats://127.0.0.1:{port},127.0.0.1:{other}"), "c")
        await listing(transport)
        with suppress(OutcomeUnknown):  # where the second one finds the connection broken
            await listing(transport)
        await listing(transport)
        await transport.close()
    return len(of_first), len(of_second)


async def answer_all(peer):
    await peer.welcome()
    while True:
        peer.answer(await peer.next(Publish))


async def test_the_server_that_answered_last_is_tried_first():
    async def refuse(peer):
        peer.writer.close()

    async def answer_once(peer):
        await peer.welcome()
        peer.answer(await peer.next(Publish))
        await peer.writer.drain()
        peer.writer.close()

    refused, answered = await asked_twice(refuse, answer_once)
    assert refused == 1
    assert answered > 1


async def test_a_server_that_shuts_down_is_tried_last():
    async def answer_and_leave(peer):
        await peer.welcome()
        peer.answer(await peer.next(Publish))
        peer.say(b'INFO {"ldm":true}\r\n')
        while not peer.is_over:
            await peer.read()

    assert await asked_twice(answer_and_leave, answer_all) == (1, 1)


async def test_a_thousand_fetches_that_are_given_up_leave_nothing():
    open_now, most = set(), 0

    async def script(peer):
        nonlocal most
        await peer.welcome()
        while not peer.is_over:
            await peer.read()
            for frame in peer.heard:
                if isinstance(frame, Subscribe):
                    open_now.add(frame.sid)
                elif isinstance(frame, Unsubscribe) and frame.max_messages is None:
                    open_now.discard(frame.sid)
            most = max(most, len(open_now))
            peer.heard.clear()

    async with meet(script) as (transport, _):
        await transport.open()
        before = len(gc.get_objects())
        for _ in range(10):
            asking = [
                asyncio.create_task(transport.request(Fetch(), "inbox", None, None, 60))
                for _ in range(100)
            ]
            await until(lambda: len(open_now) == 101)
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            await until(lambda: len(open_now) == 1)
            del asking
        gc.collect()
        assert len(gc.get_objects()) < before + 300
    assert most == 101
