"""Connections that are encrypted."""

import ssl

import pytest
from raw import RawClient, connect
from waiting import until

from mq9 import InvalidRequest, Mq9Client, Unreachable
from mq9.server.settings import ServerSettings


async def test_our_client_and_nats_py_speak_over_tls(encrypted, files):
    assert encrypted.server.url.startswith("tls://")
    async with Mq9Client(f"{encrypted.server.url}?tls_ca={files / 'ca.pem'}") as client:
        await client.mailbox_create(name="inbox")
        await client.send("inbox", bytes(500_000))
        assert len((await client.query("inbox"))[0].payload) == 500_000

    context = ssl.create_default_context(cafile=files / "ca.pem")
    other = await encrypted.nats(tls=context)
    reply = await other.request("$mq9.AI.PUBLIC.LIST")
    assert b'"error":""' in reply.data


async def test_a_certificate_of_an_unknown_authority_is_refused_by_the_client(encrypted):
    with pytest.raises(Unreachable, match="not trusted"):
        await Mq9Client.connect(encrypted.server.url)
    await until(lambda: encrypted.events.count("tls"))


async def test_who_does_not_encrypt_is_cut_off(encrypted):
    client = await RawClient.open(encrypted.server.address)
    assert client.info["tls_required"] is True
    client.send(connect() + b"PING\r\n")

    assert [frame for frame in await client.ended() if frame[0] == "PONG"] == []
    await client.close()


def test_files_that_are_no_certificate_are_named(tmp_path):
    (tmp_path / "cert.pem").write_text("nonsense")
    with pytest.raises(InvalidRequest, match="tls-cert"):
        ServerSettings(tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "cert.pem").tls()
    with pytest.raises(InvalidRequest, match="tls-cert"):
        ServerSettings(tls_cert=tmp_path / "missing", tls_key=tmp_path / "missing").tls()
