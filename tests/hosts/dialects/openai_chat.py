"""OpenAI's chat completions."""

import json

from tests.hosts.dialects import Prompt, text_of

PATH = "/chat/completions"


def read(body):
    said, told = [], []
    for message in body["messages"]:
        text = text_of(message.get("content"))
        if message["role"] == "tool":
            told.append((message["tool_call_id"], text))
        else:
            said.append(text)
    tools = [tool["function"]["name"] for tool in body.get("tools", ())]
    return Prompt("\n".join(said), tools, told=told)


def call(identifier, name, arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    tool_call = {"index": 0, "id": identifier, "type": "function", "function": function}
    delta = {"role": "assistant", "content": None, "tool_calls": [tool_call]}
    return _chunks(delta, "tool_calls")


def say(text):
    return _chunks({"role": "assistant", "content": text}, "stop")


def whole(events):
    """Return the answer to a host that wants no stream."""
    (_, first), (_, last), _ = events
    [begun], [ended] = first["choices"], last["choices"]
    message = {**begun["delta"], "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": ended["finish_reason"]}
    return {**last, "object": "chat.completion", "choices": [choice]}


def _chunks(delta, reason):
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    chunk = {
        "id": "scripted",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "scripted",
    }
    first = {"index": 0, "delta": delta, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": reason}
    yield None, {**chunk, "choices": [first]}
    yield None, {**chunk, "choices": [last], "usage": usage}
    yield None, "[DONE]"
