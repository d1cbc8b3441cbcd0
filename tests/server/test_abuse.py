"""What clients do that nobody wants: none of it may last, leak, or act for another."""

import asyncio
import json
import socket
import struct

from raw import RawClient, connect, publish
from waiting import until

from mq9.server.limits import ServerLimits
from mq9.server.users import User, Users


def reset(address, data=b""):
    """Connect, send something, and break the connection without a goodbye."""
    with socket.create_connection(address) as client:
        client.sendall(data)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_a_tls_handshake_that_is_broken_off_is_forgotten(encrypted):
    for _ in range(5):
        await asyncio.to_thread(reset, encrypted.server.address, b"\x16\x03\x01")
    await until(lambda: encrypted.events.count("opened") == 5)
    await until(lambda: encrypted.server.connections == 0)
    assert len(encrypted.events) == 10  # each was closed once


async def test_a_server_stops_though_a_tls_handshake_never_ends(encrypted):
    silent = await RawClient.open(encrypted.server.address)
    assert encrypted.server.connections == 1
    async with asyncio.timeout(20):
        await encrypted.server.drain(seconds=0.01)
    assert encrypted.server.connections == 0
    assert await silent.ended() == []  # above all nothing in clear
    await silent.close()


async def test_nobody_is_made_to_ask_for_another(open_hosted):
    guard = Users([User("bobs", agent="Bob"), User("hers", agent="Mallory")])
    hosted = await open_hosted(guard=guard)
    bob, mallory = [await hosted.raw(auth_token=token) for token in ("bobs", "hers")]
    await bob.ask("$mq9.AI.MAILBOX.CREATE", b'{"name":"bob"}')
    bob.send(b"SUB service 1\r\nPING\r\n")  # he answers whoever asks
    assert await bob.frame() == ("PONG",)

    for verb in ("$mq9.AI.MAILBOX.DROP.bob", "$mq9.AI.MSG.SEND.bob", "$mq9.other"):
        mallory.send(publish("service", b"", reply=verb))
        name, text = await mallory.frame()
        assert name == "-ERR"
        assert text == f"'Permissions Violation for Publish with Reply of \"{verb}\"'"
    bob.send(b"PING\r\n")
    assert await bob.frame() == ("PONG",)  # and nothing else came


async def test_what_arrived_before_the_end_leaves_no_subscription_behind(hosted):
    await (await hosted.client()).mailbox_create(name="inbox")
    sends = publish("$mq9.AI.MSG.SEND.inbox", b"x") * 200
    late = b"SUB work q 1\r\nSUB reply 2\r\n"
    for _ in range(5):
        await asyncio.to_thread(reset, hosted.server.address, connect() + sends + late)
    await until(lambda: hosted.server.connections == 1)  # whoever made the mailbox
    await until(lambda: not hosted.server.hub.in_work)
    assert not hosted.server.hub.router.has_interest("work")
    assert not hosted.server.hub.router.has_interest("reply")


async def test_a_stranger_may_park_nothing(open_hosted):
    hosted = await open_hosted(guard=Users.with_token("secret"))
    stranger = await hosted.stranger()
    stranger.send(b"PUB a 1000000\r\n")
    assert await stranger.ended() == [("-ERR", "'Authorization Violation'")]
    known = await hosted.stranger()
    known.send(connect(auth_token="secret") + publish("a", b"x") + b"PING\r\n")
    assert await known.frame() == ("PONG",)


async def test_one_message_for_many_subscriptions_of_a_client_is_not_copied_for_nothing(
    open_hosted, monkeypatch
):
    limits = ServerLimits(max_pending=1024 * 1024)
    hosted = await open_hosted(limits=limits)
    client, talker = await hosted.raw(), await hosted.raw()
    client.send(b"".join(b"SUB a %d\r\n" % number for number in range(1_000)) + b"PING\r\n")
    assert await client.frame() == ("PONG",)
    encoded = []
    from mq9.server import session

    encode = session.encoder.message
    monkeypatch.setattr(
        session.encoder, "message", lambda *parts: encoded.append(1) or encode(*parts)
    )
    talker.send(publish("a", bytes(500_000)) + b"PING\r\n")
    assert await talker.frame() == ("PONG",)
    await until(lambda: "slow_consumer" in hosted.events)
    assert len(encoded) < 10


async def test_what_one_client_sends_at_once_is_taken_in_turns(hosted, monkeypatch):
    """Between two parts of it others are attended to."""
    busy, other = await hosted.raw(), await hosted.raw()
    turns = []
    loop = asyncio.get_running_loop()
    time = loop.time
    spent = 0.0

    def slowly():  # as if every frame took a millisecond
        nonlocal spent
        spent += 0.001
        return time() + spent

    session = next(one.session for one in hosted.server.clients if one.number == 1)
    take = session.take

    def noted(frame):
        turns.append("busy")
        take(frame)

    monkeypatch.setattr(loop, "time", slowly)
    monkeypatch.setattr(session, "take", noted)
    busy.send(b"PUB a 0\r\n\r\n" * 500 + b"PING\r\n")
    other.send(b"PING\r\n")
    assert await other.frame() == ("PONG",)
    turns.append("other")
    assert await busy.frame() == ("PONG",)
    assert turns.index("other") < len(turns) - 1


async def test_an_agent_reports_and_leaves_though_another_registered_at_its_mailbox(open_hosted):
    guard = Users([User("a", agent="Ada"), User("m", agent="Mallory")])
    hosted = await open_hosted(guard=guard)
    ada, mallory = [await hosted.client(f"{token}@") for token in "am"]
    await ada.agent_register({"name": "Bob", "mailbox": "bob"})
    await mallory.agent_register({"name": "Aardvark", "mailbox": "bob"})
    await ada.agent_report({"name": "Bob", "mailbox": "bob", "load": 1})
    found = {one["name"]: one.match.status for one in await ada.agent_discover()}
    assert found == {"Bob": {"load": 1}, "Aardvark": None}
    await ada.agent_unregister("bob")  # by the mailbox alone it is one's own
    assert [one["name"] for one in await ada.agent_discover()] == ["Aardvark"]


async def test_public_mailboxes_are_listed_in_parts_that_the_client_puts_together(hosted):
    client = await hosted.client()
    names = [f"box{number:04}" for number in range(1_005)]
    for name in names:
        await client.mailbox_create(name=name, public=True)
    raw = await hosted.raw()
    first = json.loads(await raw.ask("$mq9.AI.PUBLIC.LIST"))
    assert (len(first["mailboxes"]), first["more"]) == (1_000, True)
    rest = json.loads(await raw.ask("$mq9.AI.PUBLIC.LIST", b'{"after":"box0999"}'))
    assert [one["mail_address"] for one in rest["mailboxes"]] == names[1_000:]
    assert "more" not in rest
    assert [one.mail_address for one in await client.mailbox_list()] == names
