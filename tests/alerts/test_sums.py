"""Sums over gateways and servers count each state once."""

from contextlib import AsyncExitStack

import pytest
from nats_server import NatsCluster
from serving import Serving

from mq9 import Mq9Client
from tests.cluster.clusters import Programs

from .history import PROMTOOL, History

pytestmark = [
    pytest.mark.programs,
    pytest.mark.unmeasured,
    pytest.mark.skipif(not PROMTOOL.exists(), reason="make builds promtool only where there is Go"),
]
OPTIONS = ("--metrics-mailbox", "in*", "--metrics-mailbox", "other")


async def fill(client, *names):
    """Create mailboxes with a message each, and one more that a group could be given."""
    for name in names:
        await client.mailbox_create(name=name)
        await client.send(name, "taken")
        await client.fetch(name, group_name="g")
        await client.send(name, "waiting")


async def test_a_state_that_several_report_counts_once(tmp_path):
    async with AsyncExitStack() as stack:
        cluster = Programs(tmp_path, stack, NatsCluster(tmp_path / "nats", 1))
        gateways = [await cluster.gateway(*OPTIONS, admin=True) for _ in range(2)]
        (tmp_path / "alone").mkdir()
        file = str(tmp_path / "alone" / "mail.db")
        alone = Serving(tmp_path / "alone", "--data", file, *OPTIONS, admin=True)
        await stack.enter_async_context(alone)
        await fill(await cluster.client(), "inbox", "other", "unnamed")
        await fill(await stack.enter_async_context(Mq9Client(alone.url)), "inbox")
        names = ("one", "two", "three")
        targets = zip(names, (*gateways, alone), strict=True)
        history = History(tmp_path, **{name: one.metrics_url for name, one in targets})

        await history.scrape(2)
        history.expect()
        history.expect_value("sum(mq9_messages)", 6 + 6 + 2)  # what one has to avoid
        history.expect_value("sum(max by (state) (mq9_messages))", 6 + 2)
        history.expect_value("sum(mq9:messages)", 6 + 2)
        history.expect_value("sum(mq9:backlog)", 3 + 1)
        history.expect_value("count(mq9_mailbox_backlog)", 2 + 2 + 1)
        history.expect_value("sum(max by (state, mailbox) (mq9_mailbox_backlog))", 2 + 1)
        history.check()
