"""Toolkits on a broker of the test's own."""

import pytest

from langchain_mq9 import Mq9Toolkit

from .agent_runs import ainvoke, astream, invoke, stream
from .tool_calls import do


def pytest_configure(config):
    # Importing LangChain's standard tests needs the marks of plugins that are not used here.
    for mark in ("benchmark", "vcr"):
        config.addinivalue_line("markers", f"{mark}: for tests of chat models")


@pytest.fixture
def open_toolkit(broker):
    """Open toolkits that are closed with the test."""
    opened = []

    def open_one(agent=None, **options):
        toolkit = Mq9Toolkit(broker.url, agent=agent, **options)
        opened.append(toolkit)
        return toolkit

    yield open_one
    for toolkit in opened:
        toolkit.close()


@pytest.fixture
def hold():
    """For how many seconds the planner's leases are renewed."""
    return 3_600


@pytest.fixture
def planner(open_toolkit, hold):
    return open_toolkit("planner", hold=hold)


@pytest.fixture
def worker(open_toolkit):
    toolkit = open_toolkit("worker")
    toolkit.get_tools()[1].invoke({})  # makes its mailbox
    return toolkit


@pytest.fixture
def anyone(open_toolkit):
    """Tools that are bound to no agent."""
    return open_toolkit()


@pytest.fixture
def inbox(planner):
    """The planner, which has its mailbox."""
    do(planner, "agent_discover")
    return planner


@pytest.fixture(params=[invoke, astream])
def run(request):
    """How an agent is run: blocking, and streaming in async code."""
    return request.param


@pytest.fixture(params=[invoke, ainvoke, stream, astream])
def any_run(request):
    """How an agent is run: in each of the four manners."""
    return request.param
