"""Anthropic's messages."""

import json
import re

from tests.hosts.dialects import Prompt, text_of

PATH = "/messages"


def read(body):
    said, told = [text_of(body.get("system"))], []
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, str):
            said.append(content)
            continue
        for block in content:
            if block["type"] == "tool_result":
                told.append((block["tool_use_id"], text_of(block.get("content"))))
            else:
                said.append(block.get("text", ""))
    text = "\n".join(said)
    tools = [tool["name"] for tool in body.get("tools", ())]
    # Claude Code lists by name what its own tool ToolSearch is to be asked for.
    listed = re.findall(r"^mcp__\S+$", text, re.MULTILINE)
    return Prompt(text, tools, [name for name in listed if name not in tools], told)


def call(identifier, name, arguments):
    block = {"type": "tool_use", "id": identifier, "name": name, "input": {}}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
    return _message(block, delta, "tool_use")


def say(text):
    return _message({"type": "text", "text": ""}, {"type": "text_delta", "text": text}, "end_turn")


def _message(block, delta, reason):
    usage = {"input_tokens": 1, "output_tokens": 1}
    stopped = {"stop_reason": reason, "stop_sequence": None}
    message = {
        "id": "scripted",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    for kind, data in (
        ("message_start", {"message": message}),
        ("content_block_start", {"index": 0, "content_block": block}),
        ("content_block_delta", {"index": 0, "delta": delta}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": stopped, "usage": usage}),
        ("message_stop", {}),
    ):
        yield kind, {"type": kind, **data}
