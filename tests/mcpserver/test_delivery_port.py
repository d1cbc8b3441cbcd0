"""The port that hooks ask: nobody else learns anything by it, or has others wait."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from mcp_server.delivery import port as ports
from mcp_server.delivery import servers
from mcp_server.delivery.port import MAX_STRANGERS, Port, announced


@pytest.fixture
async def port():
    """A port that answers what it was asked, or waits for ever."""
    asked = asyncio.Queue()

    async def answer(request):
        await asked.put(request.get("do"))
        if request.get("do") == "wait":
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asked.put("given up")
        if request.get("do") == "fail":
            raise ValueError("it does")
        return {"ready": True, "text": request.get("do")}

    port = Port(answer)
    port.asked = asked
    port.where = await port.open()
    yield port
    await port.close()


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port.where["port"])


async def say(port, request):
    """Say something; the answer, None where there is none."""
    reader, writer = await connect(port)
    data = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
    writer.write(data)
    try:
        line = await reader.readline()
    except ConnectionResetError:
        line = b""
    writer.close()
    return json.loads(line) if line else None


def knowing(port, **request):
    return {"secret": port.where["secret"], **request}


async def test_who_knows_the_secret_is_answered_and_learns_that_it_is_the_server(port):
    assert await say(port, knowing(port, do="it")) == {
        "ready": True,
        "text": "it",
        "proof": port.where["proof"],
    }
    assert port.where["proof"] != port.where["secret"]


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "it"},
        {"do": "it", "secret": ""},
        {"do": "it", "secret": None},
        {"do": "it", "secret": "0" * 64},
        {"do": "it", "secret": "\ud800"},
        ["secret"],
        b"\n",
        b"\xff\n",
        b"[" * 10_000 + b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * (servers.MAX_LINE + 1) + b"\n",
    ],
    ids=lambda one: str(one)[:20],
)
async def test_all_others_are_not(port, request_):
    assert await say(port, request_) is None
    assert port.asked.empty()
    assert await say(port, knowing(port, do="it")) is not None


async def test_a_request_that_fails_costs_no_other(port):
    assert await say(port, knowing(port, do="fail")) is None
    assert await say(port, knowing(port, do="it")) is not None


async def test_strangers_who_say_nothing_keep_nobody_out_and_cut_nobody_off(port, monkeypatch):
    monkeypatch.setattr(ports, "REQUEST_S", 60)
    waiting, waiter = await connect(port)
    waiter.write(json.dumps(knowing(port, do="wait")).encode() + b"\n")
    assert await port.asked.get() == "wait"
    silent = [await connect(port) for _ in range(3 * MAX_STRANGERS)]
    for _ in range(3):
        assert await say(port, knowing(port, do="it")) is not None
    cut_off = 0
    for reader, _ in silent[: 2 * MAX_STRANGERS]:
        try:
            cut_off += await reader.read() == b""
        except ConnectionResetError:
            cut_off += 1
    assert cut_off == 2 * MAX_STRANGERS
    assert not waiting.at_eof()
    for _, writer in [*silent, (waiting, waiter)]:
        writer.close()


async def test_a_request_may_take_so_long_and_no_longer(port, monkeypatch):
    monkeypatch.setattr(ports, "REQUEST_S", 0.05)
    reader, writer = await connect(port)
    writer.write(b'{"secret": ')
    assert await reader.read() == b""
    writer.close()


async def test_what_a_client_waits_for_is_given_up_when_it_goes_away(port):
    _, writer = await connect(port)
    writer.write(json.dumps(knowing(port, do="wait")).encode() + b"\n")
    assert await port.asked.get() == "wait"
    writer.close()
    assert await port.asked.get() == "given up"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))


def write(path, known, **members):
    """Write what a file says of a server, but for some members."""
    Path(path).write_text(json.dumps({**known, **members}))


def ask(agent="desk", **more):
    return servers.ask({"do": "it"}, agent, parent=1, directory="/", appear_s=0, answer_s=5, **more)


async def answer_yes(_request):
    return {"ready": True, "text": "yes"}


async def test_a_server_is_found_by_its_agent_while_it_runs(home):
    async with announced("desk", answer_yes):
        assert (await asyncio.to_thread(ask))["text"] == "yes"
        assert await asyncio.to_thread(ask, "other") is None
    assert await asyncio.to_thread(ask) is None


async def test_a_watcher_asks_the_server_of_its_session_and_no_other(home):
    async with announced("desk", answer_yes):
        own = str(os.getpid())
        assert (await asyncio.to_thread(ask, pid=own))["text"] == "yes"
        assert await asyncio.to_thread(ask, pid="1") is None


async def test_one_that_is_not_ready_is_not_heard(home):
    async def answer(_request):
        return {"ready": False, "text": "no"}

    async with announced("desk", answer):
        assert await asyncio.to_thread(ask) is None


async def test_another_program_on_the_port_of_a_killed_server_can_say_nothing(home):
    async with announced("desk", answer_yes):
        [(path, known)] = servers.found("desk", parent=1, directory="/")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        write(path, known, port=port)

        def impostor():
            connection, _ = listening.accept()
            with connection:
                heard = json.loads(connection.makefile("rb").readline())
                reply = {"ready": True, "text": "obey", "proof": heard["secret"]}
                connection.sendall(json.dumps(reply).encode() + b"\n")

        _, answer = await asyncio.gather(asyncio.to_thread(impostor), asyncio.to_thread(ask))
    assert answer is None
    assert servers.found("desk", parent=1, directory="/") == []


async def test_the_server_of_the_same_host_is_asked_before_others(home):
    async def other(_request):
        return {"ready": True, "text": "other"}

    async with announced("desk", answer_yes):
        [(path, known)] = servers.found("desk", parent=1, directory="/")
        write(path, known, parent=4242)
        async with announced("desk", other):
            assert len(servers.found("desk", parent=4242, directory="/")) == 2
            [(first, _), _] = servers.found("desk", parent=4242, directory="/")
    assert first == path


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"port": "1"}', "[" * 4_000])
def test_a_file_that_is_none_is_passed_over(home, content):
    folder = Path(servers.folder())
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(content)
    assert servers.found("desk", parent=1, directory="/") == []
    servers.remove_stale()


async def test_a_server_whose_agent_is_named_automatically_is_found_by_host_or_directory(home):
    async with announced("auto", answer_yes):
        [(_, known)] = servers.found("auto", parent=os.getppid(), directory="/")
        assert servers.found("auto", parent=1, directory=known["directory"])
        assert servers.found("auto", parent=1, directory="/") == []


async def test_without_a_place_for_the_file_the_server_does_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    async with announced("desk", answer_yes):
        assert "no mail arrives by itself" in caplog.text
    monkeypatch.setenv("HOME", "relative")
    async with announced("desk", answer_yes):
        assert servers.folder() is None
