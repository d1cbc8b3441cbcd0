"""Servers of ours that are held up, or encrypt."""

import asyncio

import pytest
import trustme

from mq9.server.settings import ServerSettings


class HeldBroker:
    """A broker that answers what it is asked only while `released` is set."""

    def __init__(self, broker):
        self._broker = broker
        self.released = asyncio.Event()
        self.released.set()

    def begin(self, request, answer, *, at_once):
        if self.released.is_set():
            return self._broker.begin(request, answer, at_once=at_once)
        return asyncio.create_task(self._answer(request, answer))

    def plain_address(self, subject):
        return self._broker.plain_address(subject) if self.released.is_set() else None

    async def _answer(self, request, answer):
        await self.released.wait()
        answer(await self._broker.handle(request))

    def __getattr__(self, name):
        return getattr(self._broker, name)


@pytest.fixture
async def held(open_hosted):
    """A server with a mailbox, whose broker answers nothing once its `released` is cleared."""
    hosted = await open_hosted(wrap=HeldBroker)
    await (await hosted.client()).mailbox_create(name="inbox")
    yield hosted
    hosted.broker.released.set()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    """The files of a CA, a certificate for 127.0.0.1, and its key."""
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert.pem", append=True)
    return tmp_path


@pytest.fixture
async def encrypted(open_hosted, files):
    tls = ServerSettings(tls_cert=files / "cert.pem", tls_key=files / "key.pem").tls()
    return await open_hosted(tls=tls)
