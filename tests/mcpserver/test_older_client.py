"""A LangGraph agent whose client is of the SDK's older line."""

import json

import pytest

from tests.mcpserver.programs import MQ9_MCP, McpServing, needs_older_line, older_agent
from tests.mcpserver.steps import STEPS, UNCONFIRMED

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_older_line]


@pytest.fixture(params=["stdio", "stdio each", "http", "http without sessions"])
def target(request, tmp_path):
    server = ("--agent", "Bee Keeper", "--server", f"sqlite:///{tmp_path / 'mail.db'}")
    if request.param.startswith("stdio"):
        yield request.param, str(MQ9_MCP), *server
        return
    options = ["--stateless"] if request.param == "http without sessions" else []
    with McpServing(tmp_path, *options, *server) as serving:
        yield "http", serving.url


def test_an_agent_mails_itself_and_clears_away(target, tmp_path):
    printed = older_agent(tmp_path, *target)
    assert printed.returncode == 0, printed
    told = json.loads(printed.stdout)

    statuses = ["success"] * len(STEPS)
    statuses[UNCONFIRMED] = "error"
    assert [one["tool"] for one in told] == [tool for tool, _ in STEPS], told
    assert [one["status"] for one in told] == statuses, told
    refused = told.pop(UNCONFIRMED)
    who, registered, discovered, made, sent, fetched, acked, found, deleted, left, unregistered = (
        one["data"] for one in told
    )
    assert all(json.loads(one["text"]) == one["data"] for one in told)

    assert (who["name"], who["mail_address"]) == ("Bee Keeper", "bee.keeper")
    assert registered["mail_address"] == "bee.keeper"
    [card] = discovered["agents"]
    assert (card["untrusted_name"], card["you"], card["untrusted_card"]) == (
        "Bee Keeper",
        True,
        "Counts bees.",
    )
    assert sent["msg_id"] == 0
    [message] = fetched["messages"]
    envelope = message["untrusted_envelope"]
    assert (envelope["from"], message["claimed_priority"]) == ("Bee Keeper", "urgent")
    assert envelope["reply_to"] == made["mail_address"]
    assert (message["untrusted_content"], envelope["tags"]) == ("How many are home?", ["bees"])
    assert acked["acked"] == [0]
    assert [one["msg_id"] for one in found["messages"]] == [0]

    # It cannot be asked, and says the address again instead.
    assert "confirm_address='bee.keeper'" in refused["text"]
    assert deleted["deleted"] == 0
    assert left["messages"] == []
    assert unregistered["name"] == "Bee Keeper"
