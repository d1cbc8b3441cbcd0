"""The inspector's command line, over stdio and over HTTP."""

import json

import pytest

from mq9.operations.catalog import ALL
from tests.mcpserver.programs import MQ9_MCP, McpServing, inspector, needs_node

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_node]

TOOLS = {f"mq9_{name}" for name in ALL}


class Inspector:
    """Asks one server, with a new connection each time."""

    def __init__(self, directory, era, *target):
        self._directory = directory
        self._words = ["--protocol-era", era, "--format", "json", "--quiet", "--method"]
        self._target = target

    def run(self, method, *options):
        """Ask; what the command left behind."""
        return inspector(self._directory, *self._words, method, *options, *self._target)

    def __call__(self, method, *options):
        """Ask; the result."""
        printed = self.run(method, *options)
        assert printed.returncode == 0, printed
        return json.loads(printed.stdout)["result"]

    def call(self, tool, **arguments):
        """Call a tool; what it says, as data."""
        given = ("--tool-args-json", json.dumps(arguments)) if arguments else ()
        result = self("tools/call", "--tool-name", tool, *given)
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        return result["structuredContent"]


def server(directory):
    return "--agent", "inspector", "--server", f"sqlite:///{directory / 'mail.db'}"


@pytest.fixture(scope="module", params=["legacy", "modern"])
def era(request):
    return request.param


@pytest.fixture
def over_stdio(tmp_path, era):
    return Inspector(tmp_path, era, "--", str(MQ9_MCP), *server(tmp_path))


@pytest.fixture(scope="module")
def over_http(tmp_path_factory, era):
    directory = tmp_path_factory.mktemp(era)
    with McpServing(directory, *server(directory)) as serving:
        yield Inspector(directory, era, "--transport", "http", "--server-url", serving.url)


@pytest.fixture(params=["over_stdio", "over_http"])
def ask(request, era):  # the fixtures that it gets are made for an era
    return request.getfixturevalue(request.param)


def test_it_finds_the_schemas_portable_and_calls_tools(ask):
    printed = ask.run("tools/list", "--strict")  # which ends with 6 when they are not
    assert (printed.returncode, printed.stderr) == (0, "")
    tools = json.loads(printed.stdout)["result"]["tools"]
    assert {tool["name"] for tool in tools} == TOOLS
    assert all({"title", "inputSchema", "outputSchema", "annotations"} <= set(one) for one in tools)

    sent = ask.call("mq9_send_message", to="inspector", content="Grüße", tags=["a", "b"])
    assert (sent["mail_address"], sent["msg_id"]) == ("inspector", 0)
    [message] = ask.call("mq9_query_messages")["messages"]
    assert (message["msg_id"], message["untrusted_content"]) == (0, "Grüße")
    assert (
        message["untrusted_envelope"].items() >= {"from": "inspector", "tags": ["a", "b"]}.items()
    )


def test_it_reads_resources_and_tells_what_is_wrong(over_http):
    listed = over_http("resources/list")["resources"]
    assert "mq9://mailbox/inspector" in {one["uri"] for one in listed}
    [page] = over_http("resources/read", "--uri", "mq9://protocol")["contents"]
    assert page["mimeType"] == "text/markdown"
    assert "mailbox" in page["text"]

    call = ("--tool-name", "mq9_send_message", "--tool-arg", "recipient=planner")
    printed = over_http.run("tools/call", *call)
    assert printed.returncode == 5  # as it says of a tool that failed
    result = json.loads(printed.stdout)["result"]
    assert result["isError"] is True
    assert "content: Field required" in result["content"][0]["text"]
    assert "recipient: unknown argument" in result["content"][0]["text"]
