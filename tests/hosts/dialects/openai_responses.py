"""OpenAI's responses."""

import json

from tests.hosts.dialects import Prompt, text_of

PATH = "/responses"


def read(body):
    said, told = [body.get("instructions") or ""], []
    for item in body["input"]:
        if item["type"] == "function_call_output":
            told.append((item["call_id"], text_of(item["output"])))
        elif item["type"] == "message":
            said.append(text_of(item["content"]))
    return Prompt("\n".join(said), list(_names(body.get("tools", ()))), told=told)


def _names(tools, namespace=""):
    """Return the names of functions, those in a namespace with that and a slash before them."""
    for tool in tools:
        if tool["type"] == "namespace":
            yield from _names(tool["tools"], f"{tool['name']}/")
        elif tool["type"] == "function":
            yield namespace + tool["name"]


def call(identifier, name, arguments):
    namespace, _, name = name.rpartition("/")
    item = {
        "id": f"item-{identifier}",
        "type": "function_call",
        "status": "completed",
        "call_id": identifier,
        "name": name,
        "arguments": json.dumps(arguments),
    }
    return _output({**item, "namespace": namespace} if namespace else item)


def say(text):
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return _output(
        {
            "id": "item-said",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": content,
        }
    )


def _output(item):
    response = {"id": "scripted", "object": "response", "created_at": 0, "output": []}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    for number, (kind, data) in enumerate(
        [
            ("response.created", {"response": {**response, "status": "in_progress"}}),
            ("response.output_item.added", {"output_index": 0, "item": item}),
            ("response.output_item.done", {"output_index": 0, "item": item}),
            (
                "response.completed",
                {"response": {**response, "status": "completed", "output": [item], "usage": usage}},
            ),
        ]
    ):
        yield kind, {"type": kind, "sequence_number": number, **data}
