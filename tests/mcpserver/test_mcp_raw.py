"""Raw bytes, over standard input and over HTTP: refused in clear words, and nothing is left."""

import asyncio
import contextlib
import json
import logging
import sqlite3
from pathlib import Path

import pytest
from attacks import state
from hosting import ERAS, META
from over_http import by_hand, served
from programs import StdioServer

CURRENT, OLDER = ERAS
HUGE = 10_000_000
ACCEPT = {"Accept": "application/json, text/event-stream"}
METHODS = (
    *("tools/call", "tools/list", "resources/list", "resources/templates/list", "resources/read"),
    *("prompts/list", "prompts/get", "completion/complete"),
)


pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


def line(method, number=1, **params):
    """A request on a line."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


def query(value):
    """A call with an argument as it stands in JSON."""
    return (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"mq9_query_messages"'
        + (b',"arguments":{"key":' + value + b"}}}")
    )


# Lines that are no message: with the id that the answer bears, and the code of the error.
NO_MESSAGES = [
    *((text, None, -32700) for text in (b"{", b"garbage", b"\xff\xfe\0\x01", b"x" * HUGE, b"\0")),
    *((text, None, -32600) for text in (b"null", b"[]", b"7", b'"x"', b'{"jsonrpc":"2.0"}')),
    (b"[" + line("ping") + b"]", None, -32600),
    (b'{"id":3,"method":"ping"}', 3, -32600),
    (b'{"jsonrpc":"1.0","id":"a","method":"ping"}', "a", -32600),
    (b'{"jsonrpc":"2.0","id":5,"method":7}', 5, -32600),
    (b'{"jsonrpc":"2.0","id":6,"method":"ping","params":[1]}', 6, -32600),
    (b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":7}', None, -32600),
    (query(b'"\\ud800"'), 1, -32700),
    (query(b"9" * 5_000), 1, -32700),
    (query(b"[" * 300 + b"]" * 300), 1, -32700),
    (query(b"[" * 100_000 + b"]" * 100_000), None, -32700),
    (query(b'"x" "y"'), None, -32700),
]
# Lines that want no answer.
QUIET = [
    *(b"", b"  ", b'{"jsonrpc":"2.0","method":"nope"}', b'{"jsonrpc":"2.0","id":9,"result":7}'),
    *(b'{"jsonrpc":"2.0","id":9,"error":{}}', b'{"jsonrpc":"2.0","id":9,"result":{}}'),
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}',
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}',
    b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}',
]


class Program(StdioServer):
    def answer(self, text):
        self.write(text)
        return self.hear()

    @property
    def files(self):
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def memory(self):
        """The MiB that it has in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        [kib] = [one.split()[1] for one in status.splitlines() if one.startswith("VmRSS")]
        return int(kib) / 1024


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to look into a process")
@pytest.mark.parametrize("era", ERAS)
def test_no_line_confuses_the_program(tmp_path, era, scale):
    more = {"_meta": META} if era == CURRENT else {}
    whoami = line("tools/call", "who", name="mq9_whoami", arguments={}, **more)

    def speak_nonsense():
        for text, number, code in NO_MESSAGES:
            answer = program.answer(text)
            assert (answer["id"], answer["error"]["code"]) == (number, code), text[:100]
            assert 10 < len(answer["error"]["message"]) < 200
        for text in QUIET:
            program.write(text)
            assert program.answer(whoami)["id"] == "who", text
        for method in (*METHODS, "nope", "", "initialize", "x" * HUGE):
            answer = program.answer(line(method, "m", cursor=7, **more))
            assert (answer["id"], bool(answer["error"]["message"])) == ("m", True), method[:100]
        huge = {"mail_address": "x", "content": "y" * HUGE}
        call = line("tools/call", 2, name="mq9_send_message", arguments=huge, **more)
        assert "content: " in program.answer(call)["result"]["content"][0]["text"]

    with (
        (tmp_path / "log").open("wb") as log,
        Program("--agent", "x", "--server", f"sqlite:///{tmp_path}/mq9.db", stderr=log) as program,
    ):
        if era == OLDER:  # what comes before the handshake
            for method in ("tools/list", "tools/call"):
                answer = program.answer(line(method, name="mq9_whoami", arguments={}))
                assert answer["error"]["message"]
            program.greet()
        assert not program.answer(whoami)["result"]["isError"]
        speak_nonsense()
        with contextlib.closing(sqlite3.connect(tmp_path / "mq9.db")) as file:
            before = list(file.iterdump())
            files, memory = program.files, program.memory
            for _ in range(2 * scale):
                speak_nonsense()
            assert program.files == files
            assert program.memory < memory + 100
            assert list(file.iterdump()) == before
        assert '"waiting"' in program.answer(whoami)["result"]["content"][0]["text"]
        assert program.end() == []
    said = (tmp_path / "log").read_bytes()
    assert b"Traceback" not in said
    assert len(said) < 100_000 * scale


async def pieces():
    for _ in range(60):
        yield b"x" * 100_000


LIST = line("tools/list")
# Over HTTP: the status, and what is otherwise than it should be.
BY_HTTP = [
    *((400, {"content": text}) for text, *_ in NO_MESSAGES if len(text) < HUGE),
    (413, {"content": b"x" * (4 * 1024 * 1024 + 1)}),
    (413, {"content": pieces}),
    *((400, {"headers": {"Content-Type": one}}) for one in ("text/plain", "", "text/html")),
    (406, {"headers": {"Accept": "text/html"}}),
    *((405, {"method": one}) for one in ("PUT", "PATCH", "OPTIONS", "NONSENSE")),
    *((404, {"path": one}) for one in ("/", "/mcpx", "/mcp/x", "/..%2fmcp", "/MCP")),
    *((404, {"headers": {"Mcp-Session-Id": one}}) for one in ("nope", "x" * 5_000, b"\xad\xff")),
    *((400, {"headers": {"MCP-Protocol-Version": one}}) for one in ("1999", "x", CURRENT)),
    (400, {}),  # no session
    (400, {"method": "GET"}),
    (400, {"method": "DELETE"}),
    (421, {"headers": {"Host": "elsewhere.example"}}),
    (403, {"headers": {"Origin": "https://elsewhere.example"}}),
]


async def test_nothing_confuses_the_server_over_http(broker, caplog):
    async with served(broker) as url, by_hand() as http:
        hello = {
            "MCP-Protocol-Version": CURRENT,
            "Mcp-Method": "tools/call",
            "Mcp-Name": "mq9_whoami",
        }

        async def whoami():
            text = line("tools/call", name="mq9_whoami", arguments={}, _meta=META)
            headers = {"Content-Type": "application/json", **ACCEPT, **hello}
            answer = await http.post(url, content=text, headers=headers)
            assert answer.json()["result"]["structuredContent"]["name"] == "desk"

        await whoami()
        before, many = state(broker), len(asyncio.all_tasks())
        for era in ({}, hello):
            for status, wrong in BY_HTTP:
                content = wrong.get("content", LIST)
                headers = {"Content-Type": "application/json", **ACCEPT, **era}
                answer = await http.request(
                    wrong.get("method", "POST"),
                    url.removesuffix("/mcp") + wrong.get("path", "/mcp"),
                    headers=headers | wrong.get("headers", {}),
                    content=content() if callable(content) else content,
                )
                if era and status != 413:  # there are no sessions, and one kind of request
                    assert 400 <= answer.status_code < 500, (wrong, answer.text)
                else:
                    assert answer.status_code == status, (wrong, answer.text)
                assert len(answer.text) > 5 or answer.status_code in {405, 406}, wrong
                assert len(answer.text) < 3_000, wrong
                if answer.headers.get("content-type") == "application/json":
                    assert answer.json()["error"]["message"]
        await whoami()
        assert state(broker) == before
        assert len(asyncio.all_tasks()) <= many
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]
