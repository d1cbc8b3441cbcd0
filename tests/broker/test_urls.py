"""What a URL means, and who shares the broker that it names."""

import asyncio
import logging
import os
import sqlite3
import sys
import threading

import pytest
from python_programs import run_python
from waiting import until, until_fetching

from mq9 import InvalidRequest, Mq9Client, NotConnected, Unreachable, UnusableFile
from mq9.protocol.requests import ListPublic
from mq9.transport.open import default_url, open_transport


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MQ9_SERVER", raising=False)
    return tmp_path


def writers():
    """The threads that write to files: a broker on one has one."""
    return {thread for thread in threading.enumerate() if thread.name == "mq9-writer"}


async def assert_opens(url, path):
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox", renew=True)
    assert path.is_file()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///mail.db", "mail.db"),
        ("sqlite:///a/b/mail.db", "a/b/mail.db"),
        ("sqlite:///a/../mail.db", "mail.db"),
        ("SQLITE:///Mail.db", "Mail.db"),
        ("sqlite:///with%20space%23%3F%25.db", "with space#?%.db"),
        ("sqlite:///with space.db", "with space.db"),
        ("sqlite:///m%C3%A9l.db", "mél.db"),
        ("sqlite:///mél.db", "mél.db"),
        ("sqlite:///plus+plus.db", "plus+plus.db"),
        ("sqlite:///mail.db?durability=full", "mail.db"),
        ("sqlite:///mail.db?durability=normal", "mail.db"),
    ],
)
async def test_three_slashes_are_followed_by_a_path_from_here(url, path, here):
    await assert_opens(url, here / path)


async def test_four_slashes_are_followed_by_a_path_from_the_root(here, monkeypatch):
    monkeypatch.chdir("/")
    await assert_opens(f"sqlite:///{here.as_posix()}/mail.db", here / "mail.db")


async def test_a_tilde_is_the_home_directory(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    await assert_opens("sqlite:///~/mail.db", here / "mail.db")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.db",
        "nats.example",
        "ftp://host/x",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:mail.db",
        "sqlite:/mail.db",
        "sqlite://mail.db",
        "sqlite://host/mail.db",
        "sqlite:///?durability=full",
        "sqlite:///a.db?durability=some",
        "sqlite:///a.db?durability=",
        "sqlite:///a.db?durable=full",
        "sqlite:///a#b.db",
        "sqlite:///a%00b.db",
        "sqlite:///~nobody.of.that.name/mail.db",
        "memory:name",
        "memory://name/more",
        "memory://name?durability=full",
        "memory://name#more",
        "memory://[name",
        7,
        b"memory://name",
    ],
)
async def test_any_other_url_is_refused_and_leaves_nothing_behind(url, here):
    with pytest.raises(InvalidRequest):
        await Mq9Client.connect(url)
    assert list(here.iterdir()) == []


async def test_an_unknown_scheme_is_told_what_there_is():
    with pytest.raises(
        InvalidRequest, match="nats://host:port, tls://host:port, memory://name or sqlite:///path"
    ):
        await Mq9Client.connect("amqp://localhost")


async def test_the_environment_names_the_server(here, monkeypatch):
    monkeypatch.setenv("MQ9_SERVER", "sqlite:///from-environment.db")
    await assert_opens(None, here / "from-environment.db")
    await assert_opens("sqlite:///given.db", here / "given.db")


@pytest.mark.skipif(sys.platform != "linux", reason="the directory is named otherwise elsewhere")
@pytest.mark.parametrize("name", ["data", "data #1 100%?"])
@pytest.mark.parametrize("variable", [None, ""])
async def test_without_any_url_it_is_one_private_file_per_user(here, monkeypatch, name, variable):
    monkeypatch.setenv("XDG_DATA_HOME", str(here / name))
    if variable is not None:
        monkeypatch.setenv("MQ9_SERVER", variable)
    await assert_opens(None, here / name / "mq9" / "mq9.db")
    assert (here / name / "mq9" / "mq9.db").stat().st_mode & 0o777 == 0o600
    await assert_opens(default_url(), here / name / "mq9" / "mq9.db")


async def test_memory_is_shared_by_name_and_outlives_its_clients():
    async with Mq9Client("memory://urls-one") as client:
        await client.mailbox_create(name="inbox")
        async with Mq9Client("memory://urls-two") as another:
            assert await another.mailbox_create(name="inbox") == "inbox"
    async with Mq9Client("memory://urls-one") as client:
        assert (await client.mailbox_status("inbox")).stored == 0


async def test_clients_of_one_file_share_one_broker_until_the_last_has_gone(here):
    spellings = ["sqlite:///mail.db", f"sqlite:///{here.as_posix()}/mail.db", "sqlite:///./mail.db"]
    before = writers()
    transports = [await open_transport(url, "c") for url in spellings]
    assert len(writers() - before) == 1
    full = await open_transport("sqlite:///mail.db?durability=full", "c")
    assert len(writers() - before) == 2
    await full.close()
    for transport in transports:
        assert len(writers() - before) == 1
        await transport.close()
        await transport.close()  # harmless
    assert writers() == before
    again = await open_transport(spellings[0], "c")
    assert len(writers() - before) == 1
    await again.close()
    assert list(here.iterdir()) == [here / "mail.db"]


async def test_a_file_may_be_closed_and_opened_again_and_again():
    for number in range(10):
        async with Mq9Client("sqlite:///mail.db") as client:
            await client.mailbox_create(name="inbox", renew=True)
            assert await client.send("inbox", f"{number}") == number
    async with Mq9Client("sqlite:///mail.db") as client:
        assert [one.text for one in await client.query("inbox")] == [str(n) for n in range(10)]


async def test_one_client_that_closes_takes_nothing_from_another():
    async with Mq9Client("sqlite:///mail.db") as one:
        two = await Mq9Client.connect("sqlite:///mail.db")
        await one.mailbox_create(name="inbox")
        await two.close()
        await one.send("inbox", "still here")


async def test_a_file_that_cannot_be_opened_may_be_opened_once_it_can(here):
    (here / "mail.db").write_text("not a database")
    with pytest.raises(UnusableFile):
        await Mq9Client.connect("sqlite:///mail.db")
    (here / "mail.db").unlink()
    await assert_opens("sqlite:///mail.db", here / "mail.db")


@pytest.fixture
async def locked_file(here):
    """A new file that another connection has locked; unlocked by the event that it gives."""
    unlock = threading.Event()
    locked = threading.Event()

    def hold():
        connection = sqlite3.connect(here / "mail.db")
        connection.execute("BEGIN EXCLUSIVE")
        locked.set()
        unlock.wait(60)
        connection.close()

    holding = asyncio.create_task(asyncio.to_thread(hold))
    await asyncio.to_thread(locked.wait, 60)
    yield unlock
    unlock.set()
    await holding


async def test_a_locked_file_holds_up_nobody_else(locked_file):
    connecting = asyncio.create_task(Mq9Client.connect("sqlite:///mail.db"))
    async with Mq9Client("sqlite:///other.db") as other:
        await other.mailbox_create(name="inbox")
    assert not connecting.done()
    locked_file.set()
    client = await connecting
    assert await client.mailbox_create(name="inbox") == "inbox"
    await client.close()


async def test_a_cancelled_connect_leaves_no_file_open(locked_file, statements, here):
    connecting = [asyncio.create_task(Mq9Client.connect("sqlite:///mail.db")) for _ in range(3)]
    await until(lambda: statements)
    for task in connecting:
        task.cancel()
    for task in connecting:
        with pytest.raises(asyncio.CancelledError):
            await task
    locked_file.set()
    async with Mq9Client("sqlite:///mail.db") as client:
        await client.mailbox_create(name="inbox")
    # A thread that was opening it closes it again.
    await until(lambda: list(here.iterdir()) == [here / "mail.db"])


async def test_a_connect_that_is_cancelled_takes_no_file_from_another(
    locked_file, statements, here
):
    one, two = (asyncio.create_task(Mq9Client.connect("sqlite:///mail.db")) for _ in range(2))
    await until(lambda: statements)
    one.cancel()
    locked_file.set()
    client = await two
    assert await client.mailbox_create(name="inbox") == "inbox"
    await client.close()
    assert list(here.iterdir()) == [here / "mail.db"]


@pytest.mark.parametrize("url", ["sqlite:///mail.db", "memory://urls-threads"])
def test_event_loops_in_several_threads_share_one_broker(url, here):
    handled = []
    count, threads = 30, 4

    async def work(number):
        async with Mq9Client(url) as client:
            await client.mailbox_create(name="inbox", renew=True)
            for task in range(count):
                await client.send("inbox", f"{number}.{task}")
            while (await client.mailbox_status("inbox", group_name="g")).group.acked < (
                count * threads
            ):
                fetched = await client.fetch(
                    "inbox", group_name="g", deliver="earliest", num_msgs=3, max_wait_ms=50
                )
                handled.extend(message.text for message in fetched)
                if fetched:
                    await client.ack("inbox", "g", fetched[-1].msg_id)

    workers = [threading.Thread(target=asyncio.run, args=(work(n),)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(handled) == sorted(f"{n}.{task}" for n in range(threads) for task in range(count))
    assert [one.name for one in here.iterdir()] == (["mail.db"] if "sqlite" in url else [])


@pytest.mark.parametrize("url", ["sqlite:///mail.db", "memory://urls-wake"])
async def test_a_waiter_in_one_event_loop_is_woken_by_a_send_in_another(url):
    async with Mq9Client(url) as client:
        await client.mailbox_create(name="inbox")
        waiting = asyncio.create_task(
            client.fetch("inbox", group_name="g", deliver="earliest", max_wait_ms=60_000)
        )
        await until_fetching(client, "inbox", "g")

        async def send():
            async with Mq9Client(url) as another:
                await another.send("inbox", "news")

        await asyncio.to_thread(asyncio.run, send())
        async with asyncio.timeout(30):
            assert [message.text for message in await waiting] == ["news"]


async def test_many_may_connect_and_leave_at_the_same_time(here):
    async def come_and_go(number):
        for _ in range(5):
            async with Mq9Client("sqlite:///mail.db") as client:
                await client.mailbox_create(name=f"inbox{number}", renew=True)
                await client.send(f"inbox{number}", "hello")

    await asyncio.gather(*(come_and_go(number) for number in range(10)))
    assert list(here.iterdir()) == [here / "mail.db"]
    async with Mq9Client("sqlite:///mail.db") as client:
        stored = [(await client.mailbox_status(f"inbox{number}")).stored for number in range(10)]
    assert stored == [5] * 10


FORK = """
import asyncio, os, sys
from mq9 import Mq9Client, NotConnected

url = sys.argv[1]
client = Mq9Client(url)

async def begin():
    await client.open()
    await client.mailbox_create(name="inbox")
    await client.send("inbox", "parent, before")

async def in_child():
    try:
        await client.send("inbox", "never")
    except NotConnected as error:
        assert "forked" in str(error), error
    else:
        raise AssertionError("the child used its parent's client")
    await client.close()
    async with Mq9Client(url) as own:
        if url.startswith("memory"):
            assert await own.mailbox_create(name="inbox") == "inbox"  # a broker of its own
        for number in range(20):
            await own.send("inbox", "child")
        if url.startswith("sqlite"):
            assert len(await own.query("inbox")) >= 21

async def go_on(child):
    for number in range(20):
        await client.send("inbox", "parent, after")
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert status == 0, status
    print(sorted({message.text for message in await client.query("inbox")}))
    await client.close()

asyncio.run(begin())
child = os.fork()
if child == 0:
    asyncio.run(in_child())
    sys.exit()
asyncio.run(go_on(child))
"""


@pytest.mark.programs
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:///mail.db", "['child', 'parent, after', 'parent, before']"),
        ("memory://urls-fork", "['parent, after', 'parent, before']"),
    ],
)
def test_a_forked_child_opens_its_own_and_leaves_its_parents_alone(url, told, here):
    # In a process of its own, so that it is only this one broker that is forked.
    done = run_python("-W", "ignore::DeprecationWarning", "-c", FORK, url, cwd=here)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", told)
    if url.startswith("sqlite"):
        assert list(here.iterdir()) == [here / "mail.db"]


async def test_after_closing_nothing_is_sent():
    client = await Mq9Client.connect("sqlite:///mail.db")
    await client.close()
    with pytest.raises(NotConnected):
        await client.mailbox_list()
    await client.close()  # harmless
    transport = await open_transport("sqlite:///mail.db", "c")
    await transport.close()
    with pytest.raises(NotConnected):
        await transport.request(ListPublic(), "", None, None, 1)


async def test_which_broker_is_used_is_logged_once(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "mq9.client")
    for _ in range(2):
        async with Mq9Client("memory://announced"):
            pass
    monkeypatch.setenv("MQ9_SERVER", "memory://announced")
    async with Mq9Client():
        pass
    # No other test asks for this port by this name, so that it was not logged before.
    for url in ("nats://alice:secret@localhost:2", "nats://secret@localhost:2"):
        with pytest.raises(Unreachable):
            await Mq9Client.connect(url)

    assert [one.getMessage() for one in caplog.records if "using" in one.getMessage()] == [
        "mq9: using memory://announced (as given)",
        "mq9: using memory://announced (from MQ9_SERVER)",
        "mq9: using nats://***@localhost:2 (as given)",
    ]


async def test_the_default_file_is_logged_as_such(caplog, monkeypatch, tmp_path):
    caplog.set_level(logging.INFO, "mq9.client")
    monkeypatch.delenv("MQ9_SERVER", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    async with Mq9Client():
        pass

    assert f"mq9: using sqlite:///{tmp_path}/mq9/mq9.db (default)" in caplog.messages
