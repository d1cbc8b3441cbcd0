"""Two clusters on one NATS system, of which the page about scale has the configuration."""

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nats_server import NatsServer, loopback_port
from serving import Serving

from mq9 import Mq9Client
from mq9.errors import MailboxNotFound, Unreachable

pytestmark = pytest.mark.programs

PAGE = Path(__file__).parents[2] / "docs/explanation/scale.md"
BLOCK = re.compile(r"^```conf\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PREFIXES = ("--reply-prefix", "_R_.", "--reply-prefix", "_INBOX.")


def as_user(url, name):
    return url.replace("nats://", f"nats://{name}:{name}-secret@")


class Divided:
    """A server with an account for each cluster, each with a gateway and a mailbox."""

    def __init__(self, directory, stack):
        self._directory, self._stack = directory, stack
        self._leafs = loopback_port()

    async def __aenter__(self):
        [config] = BLOCK.findall(PAGE.read_text("utf-8"))
        config = config.replace("store_dir: nats", f'store_dir: "{self._directory}/store"')
        config = re.sub(r"\$(\w+)_PASSWORD", lambda found: f"{found[1].lower()}-secret", config)
        config += f'leafnodes {{ listen: "127.0.0.1:{self._leafs}" }}\n'
        self.url = self._stack.enter_context(NatsServer(self._directory / "hub", config=config)).url
        for name in ("eu", "us"):
            directory = self._directory / name
            directory.mkdir()
            options = ("--cluster", as_user(self.url, name), "--data", str(directory / "mail.db"))
            await self._stack.enter_async_context(Serving(directory, *options, *PREFIXES))
            await (await self.client(name)).mailbox_create(name=f"{name}.inbox")
        return self

    async def __aexit__(self, *exception):
        """The stack ends all."""

    async def client(self, user, url=None):
        client = Mq9Client(url or as_user(self.url, user), request_timeout=5)
        return await self._stack.enter_async_context(client)

    def leaf(self):
        """The URL of a server that is a leaf of this one."""
        remote = as_user(f"nats://127.0.0.1:{self._leafs}", "apps")
        config = f'leafnodes {{ remotes: [{{ url: "{remote}" }}] }}\n'
        return self._stack.enter_context(NatsServer(self._directory / "leaf", config=config)).url


@pytest.fixture
async def divided(tmp_path):
    async with AsyncExitStack() as stack, Divided(tmp_path, stack) as made:
        yield made


@pytest.mark.parametrize("at", ["hub", "leaf"])
async def test_one_client_reaches_both_clusters_by_the_prefix_of_an_address(divided, at):
    client = await divided.client("apps", divided.leaf() if at == "leaf" else None)
    for box in ("eu.inbox", "us.inbox"):
        await client.send(box, f"for {box}")
        [message] = await client.fetch(box, group_name="readers")
        assert message.text == f"for {box}"
        assert await client.ack(box, "readers", message.msg_id) == [message.msg_id]
        assert (await client.mailbox_status(box)).stored == 1


async def test_verbs_without_an_address_and_moves_to_the_other_cluster_do_not_work(divided):
    client = await divided.client("apps")
    for call in (lambda: client.mailbox_create(name="eu.second"), client.agent_discover):
        with pytest.raises(Unreachable):
            await call()
    await client.send("eu.inbox", "stays")
    [message] = await client.fetch("eu.inbox", group_name="readers")
    with pytest.raises(MailboxNotFound):
        await client.move("eu.inbox", "readers", message.msg_id, to="us.inbox")
    assert await client.ack("eu.inbox", "readers", message.msg_id)
