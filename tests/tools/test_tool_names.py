"""Texts that speak of tools name those that the agent has."""

import pytest

from mq9.operations.tool_names import ToolNames

from .tool_calls import TOOLS, answer, fail, fetch, send, tool


@pytest.mark.parametrize(
    ("template", "offered", "text"),
    [
        ("call @fetch_messages.", {"fetch_messages": "x-fetch"}, "call x-fetch."),
        ("a[[ b @ack_messages]].", {}, "a."),
        ("a[[ b @ack_messages]].", {"ack_messages": "ack"}, "a b ack."),
        ("[[@whoami|@ack_messages|none]]", {"ack_messages": "ack"}, "ack"),
        ("[[@whoami|@ack_messages|none]]", {}, "none"),
        ("[[@whoami and @ack_messages]]", {"ack_messages": "ack"}, ""),
        ("[[a\n@whoami]]b\n[[c\n]]", {}, "b\nc\n"),
        ("keep {these} and [one]", {}, "keep {these} and [one]"),
    ],
)
def test_a_passage_stands_when_its_tools_are_there(template, offered, text):
    assert ToolNames(offered).text(template) == text


def test_without_more_all_operations_go_by_their_own_names():
    assert ToolNames().text("@whoami[[ and @ack_messages]]") == "whoami and ack_messages"
    assert "whoami" in ToolNames()


def test_a_text_cannot_name_what_is_not_there():
    with pytest.raises(KeyError, match="whoami"):
        ToolNames({}).text("@whoami")


def test_an_agent_with_few_tools_is_told_of_no_others(open_toolkit, worker):
    reader = open_toolkit("planner", tools=["fetch_messages", "query_messages"])
    fetch(reader)
    send(worker, "x" * 200)
    send(worker, "y")

    said = [
        *(tool(reader, name).description for name in ("fetch_messages", "query_messages")),
        answer(reader, "fetch_messages", wait_seconds=0, max_chars=100).content,
        answer(reader, "query_messages", max_chars=100, limit=1).content,
        fail(reader, "query_messages", mail_address="nobody"),
    ]

    others = set(TOOLS) - {"fetch_messages", "query_messages"}
    assert not [name for text in said for name in others if name in text]
    assert any("call fetch_messages" in text for text in said)
