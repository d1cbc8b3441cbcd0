"""Agent frameworks, each in an environment of its own, with an agent as short as can be."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.running import run_steps

_HERE = Path(__file__).parent / "frameworks"
_ENVIRONMENTS = Path(__file__).parents[2] / ".tools/frameworks"


@dataclass(frozen=True)
class Framework:
    """A framework."""

    name: str
    title: str
    package: str

    @property
    def version(self):
        """The version that is pinned."""
        pinned = (_HERE / f"{self.name}.txt").read_text().splitlines()
        return dict(line.split("==") for line in pinned)[self.package]

    def need(self):
        """Skip the test where the framework is not installed."""
        if not (_ENVIRONMENTS / self.name / ".ready").exists():
            pytest.skip(f"pip could not install what frameworks/{self.name}.txt lists")

    def run(self, home, model, steps, transport, *target):
        """Let an agent do what the model says; what the model saw."""
        python = _ENVIRONMENTS / self.name / "bin/python"
        agent = _HERE / f"{self.name}_agent.py"
        command = [python, agent, f"{model.url}/v1", transport, *target]
        return run_steps(model, steps, command, home=home, directory=home)


FRAMEWORKS = (
    Framework("agent_framework", "Agent Framework", "agent-framework-core"),
    Framework("agno", "Agno", "agno"),
    Framework("autogen", "AutoGen", "autogen-agentchat"),
    Framework("langchain", "LangChain", "langchain-mcp-adapters"),
    Framework("llama_index", "LlamaIndex", "llama-index-tools-mcp"),
    Framework("openai_agents", "OpenAI Agents SDK", "openai-agents"),
    Framework("pydantic_ai", "Pydantic AI", "pydantic-ai-slim"),
    Framework("strands", "Strands Agents", "strands-agents"),
)
