"""Gemini's streamGenerateContent."""

import json

from tests.hosts.dialects import Prompt

PATH = ":streamGenerateContent"


def read(body):
    said, told = [], []
    for content in [body.get("systemInstruction") or {}, *body["contents"]]:
        for part in content.get("parts", ()):
            answer = part.get("functionResponse")
            if answer is None:
                said.append(part.get("text", ""))
            else:
                told.append((answer["id"], "\n".join(map(_text, answer["response"].values()))))
    tools = [
        function["name"]
        for group in body.get("tools", ())
        for function in group.get("functionDeclarations", ())
    ]
    return Prompt("\n".join(said), tools, told=told)


def call(identifier, name, arguments):
    return _answer({"functionCall": {"id": identifier, "name": name, "args": arguments}})


def say(text):
    return _answer({"text": text})


def _answer(part):
    content = {"role": "model", "parts": [part]}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    candidate = {"content": content, "finishReason": "STOP", "index": 0}
    yield None, {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)
