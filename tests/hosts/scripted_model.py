"""A model on loopback that goes through the steps of a script, whichever host asks."""

import json
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from tests.hosts.dialects import anthropic, gemini, openai_chat, openai_responses
from tests.hosts.heard import passages

PROMPT = "Go through the steps."
_DIALECTS = (openai_responses, openai_chat, gemini, anthropic)
_SEARCH = "search-"  # what the identifiers begin with of calls that are no steps


@dataclass
class Seen:
    offered: list[str] = field(default_factory=list)
    seconds: float | None = None
    told: list[str] = field(default_factory=list)
    stuck: str | None = None
    outside: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    # When each request came, and the roles and texts in it.
    heard: list[tuple[float, list[tuple[str, str]]]] = field(default_factory=list)

    @property
    def data(self):
        return [data_in(text) for text in self.told]


class ScriptedModel:
    """Answers hosts, one after the other, and is the proxy that does not let them out."""

    def __init__(self):
        self.seen = Seen()
        self._steps = []
        self._at_end = None
        self._began = 0.0
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.model = self

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()

    def begin(self, steps, at_end=None):
        """Begin a script, and forget what was seen of the one before.

        ``at_end`` is called each time that a turn ends.
        """
        with self._lock:
            self.seen = Seen()
            self._steps = steps
            self._at_end = at_end
            self._began = time.monotonic()

    def refuse(self, machine):
        """Note that the host wanted to reach another machine."""
        with self._lock:
            self.seen.outside.add(machine)

    def answer(self, dialect, body):
        """Return the events that answer a request."""
        prompt = dialect.read(body)
        if PROMPT not in prompt.said or not prompt.tools:
            return dialect.say("Steps")  # a request of the host's own, such as for a title
        with self._lock:
            self.seen.heard.append((time.monotonic(), passages(body)))
            return self._go_on(dialect, prompt)

    def failed(self, error):
        """Note that a request was not understood."""
        with self._lock:
            self.seen.errors.append(repr(error))

    def _go_on(self, dialect, prompt):
        seen = self.seen
        if seen.seconds is None:
            seen.seconds = time.monotonic() - self._began
            seen.offered = [*prompt.tools, *prompt.deferred]
        seen.told = [text for call, text in prompt.told if not call.startswith(_SEARCH)]
        number = len(seen.told)
        if number >= len(self._steps):
            if self._at_end is not None:
                self._at_end()
            return dialect.say("That is all.")
        tool, make_arguments = self._steps[number]
        name = _ending_with(tool, prompt.tools)
        if name is None:
            return self._search(dialect, prompt, tool)
        said = dict(zip((tool for tool, _ in self._steps), seen.data, strict=False))
        try:
            arguments = make_arguments({name: data for name, data in said.items() if data})
        except (KeyError, IndexError) as error:
            return self._give_up(dialect, f"step {number} misses {error!r} in {seen.told}")
        return dialect.call(f"step-{number}", name, arguments)

    def _search(self, dialect, prompt, tool):
        """Ask for a tool of which only the name is known, once."""
        name = _ending_with(tool, prompt.deferred)
        search = _SEARCH + tool
        if name is None or search in dict(prompt.told):
            return self._give_up(dialect, f"there is no tool {tool}")
        query = {"query": f"select:{name}", "max_results": 1}
        return dialect.call(search, "ToolSearch", query)

    def _give_up(self, dialect, reason):
        self.seen.stuck = reason
        return dialect.say(reason)


def _ending_with(tool, names):
    return next((name for name in names if name.endswith(tool)), None)


def data_in(text):
    """Return the object that a tool told, in what a host made of it; None when there is none.

    Hosts write their own words before or after it, or put it into an MCP result in JSON.
    """
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None
    if "content" in value and "isError" in value:
        return None if value["isError"] else data_in(value["content"][0]["text"])
    return value


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self._body()
        path = self.path.partition("?")[0]
        for dialect in _DIALECTS:
            if path.endswith(dialect.PATH):
                self._stream(dialect, body)
                return
        self._give(HTTPStatus.NOT_FOUND, "application/json", b"{}")

    def do_GET(self):
        self._give(HTTPStatus.NOT_FOUND, "application/json", b"{}")

    def do_CONNECT(self):
        self.server.model.refuse(self.path)
        self.close_connection = True
        self.send_error(HTTPStatus.FORBIDDEN)

    def log_message(self, *_words):
        """Leave the tests' output alone."""

    def _stream(self, dialect, body):
        model = self.server.model
        try:
            asked = json.loads(body)
            events = list(model.answer(dialect, asked))
        except (LookupError, TypeError, ValueError) as error:
            model.failed(error)
            self._give(HTTPStatus.BAD_REQUEST, "application/json", b"{}")
            return
        if asked.get("stream") or dialect is not openai_chat:
            self._give(HTTPStatus.OK, "text/event-stream", b"".join(map(_written, events)))
        else:
            whole = json.dumps(openai_chat.whole(events)).encode()
            self._give(HTTPStatus.OK, "application/json", whole)

    def _body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _give(self, status, kind, content):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _written(event):
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data)
    return f"event: {name}\ndata: {text}\n\n".encode() if name else f"data: {text}\n\n".encode()
