"""No thread outlives the broker that it worked for."""

import asyncio
import threading

import pytest

from mq9 import Mq9Client
from mq9.discovery.embeddings import WordLlamaEmbeddings
from mq9.testing import FakeBroker


async def _use(client):
    async with client:
        await client.mailbox_create(name="inbox", renew=True)
        await client.agent_register({"name": "x", "mailbox": "inbox", "payload": "translates"})
        async with asyncio.timeout(60):  # until the model is there it is found by words
            while (await client.agent_discover(semantic="translates")).mode != "semantic":
                pass
        await client.fetch("inbox", group_name="g", max_wait_ms=0)


def _threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("mq9")}


@pytest.fixture
def before():
    return _threads()


def _ended(before):
    """Wait, for threads that are about to end; those that do not."""
    began = _threads() - before
    for thread in began:
        thread.join(10)
    return {thread.name for thread in began if thread.is_alive()}


@pytest.mark.parametrize("times", [1, 3])
async def test_threads_end_with_the_last_client_of_a_broker(tmp_path, before, times):
    for _ in range(times):
        for url in (f"sqlite:///{tmp_path}/mq9.db", f"memory://{tmp_path.name}"):
            await _use(Mq9Client(url))
            assert _ended(before) == set()


async def test_threads_go_on_while_another_client_has_the_broker(tmp_path):
    url = f"memory://{tmp_path.name}"
    async with Mq9Client(url) as client:
        await _use(Mq9Client(url))
        assert await client.agent_discover(semantic="translates")


async def test_threads_end_with_a_fake_broker(before):
    with FakeBroker(embeddings=WordLlamaEmbeddings()) as broker:
        await _use(broker.client())
    assert _ended(before) == set()
