"""The standard tests of LangChain, for each tool."""

import pytest
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from langchain_mq9 import Mq9Toolkit
from langchain_mq9.tools import TOOLS

from .examples import VALID
from .tool_calls import do, fetch, send

pytestmark = pytest.mark.unmeasured

# A tool by itself has fetched nothing. Message 1 is deleted, and may be acked by anybody.
INSTEAD = {"ack_messages": {"mail_address": "planner", "msg_id": 1}}


class OnBroker:
    """A tool by itself, of an agent that has fetched a message elsewhere."""

    @pytest.fixture(autouse=True)
    def _prepare(self, mq9_broker):
        self.url = mq9_broker.url
        with Mq9Toolkit(self.url, agent="planner") as toolkit:
            do(toolkit, "agent_register", capabilities="Plans")
            for content in ("hello", "never mind"):
                send(toolkit, content)
            do(toolkit, "delete_message", mail_address="planner", msg_id=1)
            fetch(toolkit)

    @property
    def tool_constructor(self):
        return self.kind

    @property
    def tool_constructor_params(self):
        return {"server": self.url, "agent": "planner"}

    @property
    def tool_invoke_params_example(self):
        name = self.kind.operation.name
        return INSTEAD.get(name, VALID[name])


class OnEnvironment(OnBroker):
    """The same, finding its broker in the environment."""

    @property
    def tool_constructor_params(self):
        return {}

    @property
    def init_from_env_params(self):
        return {"MQ9_SERVER": self.url}, {}, {"name": self.kind.operation.name}


for kind in TOOLS:
    unit, integration = f"Test{kind.__name__}Unit", f"Test{kind.__name__}Integration"
    globals()[unit] = type(unit, (OnEnvironment, ToolsUnitTests), {"kind": kind})
    globals()[integration] = type(integration, (OnBroker, ToolsIntegrationTests), {"kind": kind})
del kind
