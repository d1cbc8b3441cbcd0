"""The model with which agents are tested."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from langchain_mq9.testing import ScriptedModel, call

QUESTION = [HumanMessage("go on")]


async def test_a_scripted_model_says_one_step_after_the_other():
    model = ScriptedModel(
        "Hello.", AIMessage("Still here."), lambda said: AIMessage(said[-1].content), "Bye."
    )

    assert [model.invoke(QUESTION).content for _ in range(3)] == ["Hello.", "Still here.", "go on"]
    assert (await model.bind_tools([]).ainvoke(QUESTION)).content == "Bye."


def test_a_step_calls_a_tool_under_an_id_of_its_own():
    first, second = (call("send_message", content="x").tool_calls[0] for _ in range(2))

    assert (first["name"], first["args"]) == ("send_message", {"content": "x"})
    assert first["id"] != second["id"]


def test_what_becomes_of_an_answer_does_not_change_the_script():
    step = AIMessage("Hello.")
    model = ScriptedModel(step, step)

    model.invoke(QUESTION).id = "changed"

    assert step.id is None
    assert model.invoke(QUESTION).id != "changed"


def test_a_script_that_is_over_says_so():
    model = ScriptedModel("Only this.")
    model.invoke(QUESTION)

    with pytest.raises(ValueError, match="the script has 1 steps and was asked for another"):
        model.invoke(QUESTION)
