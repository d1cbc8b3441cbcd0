"""The standard tests of LangChain, for each of the eight tools."""

import pytest
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from langchain_mq9 import Mq9Toolkit
from langchain_mq9.tools import TOOLS

from .tool_calls import do, fetch

EXAMPLES = {
    "agent_register": {"name": "translator", "capabilities": "Translates"},
    "agent_discover": {"query": "translate"},
    "create_mailbox": {"name": "new.desk", "ttl": 60},
    "send_message": {"mail_address": "desk", "content": "hello"},
    "fetch_messages": {"mail_address": "desk", "wait_seconds": 0},
    "ack_messages": {"mail_address": "desk", "msg_id": 1},  # gone: 0 was handed to somebody else
    "query_messages": {"mail_address": "desk"},
    "delete_message": {"mail_address": "desk", "msg_id": 0},
}


class OnBroker:
    """A tool by itself, on a broker where somebody has fetched a message from `desk`."""

    @pytest.fixture(autouse=True)
    def _prepare(self, mq9_broker):
        self.url = mq9_broker.url
        with Mq9Toolkit(self.url) as toolkit:
            do(toolkit, "create_mailbox", name="desk")
            for content in ("hello", "never mind"):
                do(toolkit, "send_message", mail_address="desk", content=content)
            do(toolkit, "delete_message", mail_address="desk", msg_id=1)
            fetch(toolkit, mail_address="desk")

    @property
    def tool_constructor(self):
        return self.kind

    @property
    def tool_constructor_params(self):
        return {"server": self.url}

    @property
    def tool_invoke_params_example(self):
        return EXAMPLES[self.kind.operation.name]


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
