"""How the tests run prebuilt agents: with a model that notes what it is shown, in four manners."""

import json

from langchain_core.messages import AIMessage

from langchain_mq9.testing import ScriptedModel

QUESTION = {"messages": [("human", "anything new?")]}


class Script:
    """A model that notes what it is shown each time it is asked."""

    def __init__(self, *steps):
        self.shown = []
        self.model = ScriptedModel(*(self._step(step) for step in steps))

    def _step(self, step):
        def say(messages):
            self.shown.append(list(messages))
            if isinstance(step, Exception):
                raise step
            said = step() if callable(step) else step
            return AIMessage(said) if isinstance(said, str) else said

        return say

    def mail(self, call_of_the_model=-1):
        """The mail that the model was shown, as it was told of it."""
        shown = self.shown[call_of_the_model]
        return [
            json.loads(one.content.partition("\n")[2])
            for one in shown
            if str(one.content).startswith("New mail for you.")
        ]

    def bodies(self, call_of_the_model=-1):
        return [one["untrusted_content"] for one in self.mail(call_of_the_model)]


async def invoke(agent, given, config=None):
    return agent.invoke(given, config)


async def ainvoke(agent, given, config=None):
    return await agent.ainvoke(given, config)


async def stream(agent, given, config=None):
    *_, last = agent.stream(given, config, stream_mode="values")
    return last


async def astream(agent, given, config=None):
    return [state async for state in agent.astream(given, config, stream_mode="values")][-1]
