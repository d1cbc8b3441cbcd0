"""Three workers of one agent, of which one is killed: whoever asks gets an answer in time."""

import asyncio
import os
import signal
import sys
import time

import pytest

from mq9 import Mq9Client
from mq9.client.consumer.options import RENEWED_LEASE_MS
from tests.fleet.crew import AGENT
from tests.fleet.test_crew import crew

WORKERS = 3
USERS = 30
STEP_S = 0.5  # of the two of each run
ASK_S = 60  # the default of ask_agent

pytestmark = [
    pytest.mark.programs,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
]


@pytest.mark.quick
async def test_who_asks_while_a_worker_is_killed_gets_an_answer(tmp_path):
    url = f"sqlite:///{tmp_path / 'mail.db'}"
    async with Mq9Client(url) as client:
        await client.mailbox_create(name=AGENT, renew=True)
        async with crew(url, tmp_path, WORKERS, RENEWED_LEASE_MS) as (_, pids):
            asking = [asyncio.create_task(ask(client, number)) for number in range(USERS)]
            await until_all_work(client)
            os.kill(pids[0], signal.SIGKILL)
            answers = await asyncio.gather(*asking)  # NoReply if one is not answered in time
        print("longest wait:", max(seconds for _, seconds in answers), "s")  # noqa: T201
        assert [square for square, _ in answers] == [number**2 for number in range(USERS)]
        assert (await client.mailbox_status(f"{AGENT}.dead")).stored == 0


async def ask(client, number):
    """Return what a user was answered, and after how many seconds."""
    begun = time.monotonic()
    question = {"number": number, "seconds": STEP_S}
    answer = await client.request(AGENT, question, timeout=ASK_S)
    return answer.json()["square"], time.monotonic() - begun


async def until_all_work(client):
    async with asyncio.timeout(60):
        while True:
            status = await client.mailbox_status(AGENT, group_name=AGENT)
            if len({one.consumer for one in status.group.leased}) == WORKERS:
                return
            await asyncio.sleep(0.05)
