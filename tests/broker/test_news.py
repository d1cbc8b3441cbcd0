"""A process that waits for mail in a file sleeps until another process writes to it."""

import asyncio
import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from waiting import until, until_fetching

from mq9 import Mq9Client
from mq9.storage import news as news_module
from mq9.storage import store
from mq9.storage.news import FileEvents, News

linux = pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel reports changes")
SENDER = """
import asyncio, sys
from mq9 import Mq9Client

async def main():
    async with Mq9Client(sys.argv[1]) as client:
        await client.send("inbox", sys.argv[2])

asyncio.run(main())
"""


async def send_from_another_process(url, text):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, url, text)
    assert await process.wait() == 0


@pytest.mark.programs
@linux
async def test_a_commit_of_another_process_wakes_who_would_not_look_for_an_hour(url, monkeypatch):
    monkeypatch.setattr(news_module, "FALLBACK_S", 3_600.0)
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        for text in ("first", "second", "third"):
            fetch = client.fetch("inbox", group_name="g", max_wait_ms=60_000)
            task = asyncio.create_task(fetch)
            await until_fetching(client, "inbox", "g")
            await send_from_another_process(url, text)
            async with asyncio.timeout(30):
                [message] = await task
            assert message.text == text
            await client.ack("inbox", "g", message.msg_id)


@pytest.mark.programs
@linux
async def test_where_the_system_has_no_more_watches_it_says_so_once_and_looks_itself(url, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            os.close(taken.pop())  # for inotify, and none for what ends its thread
            task = asyncio.create_task(client.fetch("inbox", group_name="g", max_wait_ms=60_000))
            await until(lambda: "does not report changes" in caplog.text)
        finally:
            for one in taken:
                os.close(one)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await send_from_another_process(url, "found")
        async with asyncio.timeout(30):
            [message] = await task
        await client.ack("inbox", "g", message.msg_id)
        await client.fetch("inbox", group_name="g", max_wait_ms=1)
    assert message.text == "found"
    assert caplog.text.count("does not report changes") == 1
    assert "fs.inotify.max_user_instances" in caplog.text


class TestWithoutReports:
    """The fallback, on a clock of the test's."""

    @pytest.fixture
    def time(self):
        return [100.0]

    @pytest.fixture
    def news(self, path, time):
        with closing(store.open_file(path)) as connection:
            news = News(connection, [path.with_name("missing")], lambda: None, lambda: time[0])
            news.look()
            news.listen(True)
            yield news
            news.close()

    def write(self, path):
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE checkpoints SET token=randomblob(16)")

    def test_it_looks_less_often_the_longer_nothing_comes_and_often_again_then(
        self, news, path, time
    ):
        intervals = []
        for _ in range(60):
            assert not news.look()
            intervals.append(news.interval_s())
            time[0] += intervals[-1]
        assert intervals[0] == 0.02
        assert intervals == sorted(intervals)
        assert intervals[-1] == 0.25
        self.write(path)
        assert news.look()
        assert news.interval_s() == 0.02

    def test_who_begins_to_wait_is_in_a_hurry(self, news, time):
        time[0] += 3_600
        assert news.interval_s() == 0.25
        news.listen(False)
        news.listen(True)
        assert news.interval_s() == 0.02


@linux
def test_changes_come_together_and_none_is_missed_while_nobody_listens(tmp_path):
    path = tmp_path / "file"
    path.touch()
    changed = threading.Semaphore(0)
    events = FileEvents([path], changed.release)
    path.write_text("unheard")
    assert not changed.acquire(timeout=0.05)
    events.listen(True)
    assert changed.acquire(timeout=30)
    path.write_text("heard")
    assert changed.acquire(timeout=30)
    path.unlink()
    assert changed.acquire(timeout=30)
    events.close()
    assert "mq9-file-events" not in {one.name for one in threading.enumerate()}


FORKING = """
import asyncio, os, sys
from mq9 import Mq9Client
from mq9.storage import news

news.FALLBACK_S = 3_600.0
url = sys.argv[1]

def watches():
    shown = (f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd"))
    return sum(os.path.exists(one) and "inotify" in os.readlink(one) for one in shown)

async def main():
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        task = asyncio.create_task(client.fetch("inbox", group_name="g", max_wait_ms=60_000))
        while not watches():
            await asyncio.sleep(0.01)
        if (child := os.fork()) == 0:
            os._exit(watches())
        _, status = os.waitpid(child, 0)
        print(watches(), os.waitstatus_to_exitcode(status), flush=True)
        [message] = await task
        print(message.text)

asyncio.run(main())
"""


@pytest.mark.programs
@linux
def test_a_forked_child_lets_go_of_the_watches_and_its_parent_is_woken(url):
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, url], stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout.readline() == "1 0\n"
            subprocess.run([sys.executable, "-c", SENDER, url, "hello"], check=True, timeout=60)
            assert parent.communicate(timeout=60)[0] == "hello\n"
        finally:
            parent.kill()


@linux
def test_watches_that_were_closed_are_not_closed_again_by_a_child(tmp_path):
    events = FileEvents([tmp_path], lambda: None)
    events.close()
    with (tmp_path / "one").open("w") as one, (tmp_path / "two").open("w") as two:
        events.abandon()  # their descriptors have the numbers of the watches

        one.write("x")
        two.write("y")
