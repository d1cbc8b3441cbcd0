"""The parser takes what a real nats-server takes, and refuses more only where it is said here."""

import asyncio

import pytest
from nats_server import NatsServer
from spoken import EXAMPLES, MAX_PAYLOAD, REFUSED

# Of what we refuse, a nats-server ignores what only servers say, and does not look at the number.
TAKEN_THERE = {b"+OK\r\n", b"UNSUB 1 x\r\n"}
LAST = b"SUB last 99\r\nPUB last 0\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with NatsServer(tmp_path_factory.mktemp("nats"), config=f"max_payload: {MAX_PAYLOAD}") as one:
        yield one


async def is_taken(server, data):
    """Tell whether a client that has said this is still listened to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(10):
            await reader.readline()
            writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + data + LAST)
            heard = b""
            while chunk := await reader.read(65_536):
                heard += chunk
                if b"MSG last 99 0\r\n" in heard:
                    return True
            return False
    except ConnectionError:
        return False
    finally:
        writer.close()


@pytest.mark.parametrize(("data", "frame"), EXAMPLES)
async def test_what_we_take_is_taken_by_a_nats_server(server, data, frame):
    assert await is_taken(server, data)


@pytest.mark.parametrize(("data", "told"), REFUSED)
async def test_what_we_refuse_is_refused_by_a_nats_server_but_for_some(server, data, told):
    assert await is_taken(server, data) == (data in TAKEN_THERE)
