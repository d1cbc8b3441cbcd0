"""Two LangGraph agents: one asks, the other crashes at work and comes back. Nothing is lost."""

import argparse
import json
import tempfile

from langgraph.prebuilt import create_react_agent
from narrator import crash, opening, scene, show, summary

from langchain_mq9 import Mq9Toolkit
from langchain_mq9.testing import ScriptedModel, call


def result(conversation, tool, field):
    """Read a field of a tool's latest result."""
    return json.loads([m for m in conversation if m.name == tool][-1].content)[field]


def ask(content, **options):
    def step(seen):
        address = result(seen, "agent_discover", "agents")[0]["mail_address"]
        return call("send_message", to=address, content=content, **options)

    return step


def answer(number, content):
    def step(seen):
        asked = result(seen, "fetch_messages", "messages")[number]["untrusted_envelope"]
        return call("send_message", to=asked["reply_to"], content=content)

    return step


def ack_all(seen):
    fetched = result(seen, "fetch_messages", "messages")
    return call("ack_messages", msg_id=[message["msg_id"] for message in fetched])


SKILLS = "Translates Chinese, Japanese and Korean into English"
FETCH = call("fetch_messages", wait_seconds=30)
WORK = [answer(0, "The server room is too hot!"), answer(1, "Good morning"), ack_all, "All done."]
TASK = "Fetch your messages, waiting 30 s; answer each at its reply_to; then ack them all."
SCENES = [  # who, what happens, the task, a scripted model's part, the tool after which power fails
    ("translator", "It says what it can do, and goes offline.", f"Register. {SKILLS}.",
     [call("agent_register", name="translator", capabilities=SKILLS), "Registered."], None),
    ("planner", "It finds the translator by what that can do, and writes to it all the same.",
     "Find a translator. Have 早上好 translated, and urgently 机房太热了. Do not wait for answers.",
     [call("agent_discover", query="translate Chinese"), ask("Translate: 早上好"),
      ask("Translate: 机房太热了", priority="urgent"), "Both are sent."], None),
    ("translator", "It comes back, the urgent mail first.", TASK, [FETCH], "fetch_messages"),
    ("translator", "It starts again. Its mail is still leased; then it is delivered once more.",
     TASK, [call("fetch_messages", wait_seconds=0), FETCH, *WORK], None),
    ("planner", "It reads the answers.", "Fetch your messages, ack them all, and sum them up.",
     [FETCH, ack_all, "The server room is too hot, and good morning."], None),
]  # fmt: skip


def main(server, real_model=None):
    opening(real_model)
    for name, purpose, task, script, crash_after in SCENES:
        scene(name, purpose)
        model = real_model or ScriptedModel(*script)  # "provider:name" is made by init_chat_model
        with Mq9Toolkit(server, agent=name, lease_ms=20_000 if real_model else 2_000) as toolkit:
            agent = create_react_agent(model, toolkit.get_tools(), prompt=f"You are {name}.")
            for step in agent.stream({"messages": [("human", task)]}, stream_mode="updates"):
                used = show(name, step)
                if used and used == crash_after:
                    crash()
                    break
    summary()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", help="a real model, such as anthropic:claude-sonnet-4-5")
    with tempfile.TemporaryDirectory() as directory:
        main(f"sqlite:///{directory}/mq9.db", options.parse_args().model)
