"""An error names the broker that was asked, and no secret."""

import pytest
from serving import Serving

from mq9 import InvalidRequest, MailboxNotFound, Mq9Client, SyncMq9Client

TOKEN = "the-token"


async def refused_by(client):
    with pytest.raises(MailboxNotFound) as caught:
        await client.query("nowhere")
    return caught.value.broker


@pytest.mark.programs
async def test_of_several_servers_it_is_the_one_that_got_the_request(tmp_path):
    servers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        servers.append(Serving(tmp_path / name, "--memory", environment={"MQ9_AUTH_TOKEN": TOKEN}))
    async with servers[0] as one, servers[1] as two:
        url = ",".join(server.url.replace("://", f"://{TOKEN}@") for server in (one, two))
        async with Mq9Client(url) as client:
            assert await refused_by(client) == one.url
            one.kill()
            assert await refused_by(client) == two.url


async def test_it_is_the_file_or_the_name_of_a_broker_in_this_process(tmp_path):
    for url in (f"sqlite:///{tmp_path}/mail.db", "memory://somewhere"):
        async with Mq9Client(url) as client:
            assert await refused_by(client) == url
            with pytest.raises(InvalidRequest) as caught:
                await client.query("No Address")
            assert caught.value.broker is None


def test_the_synchronous_client_has_it_too(tmp_path):
    url = f"sqlite:///{tmp_path}/mail.db"
    with SyncMq9Client(url) as client, pytest.raises(MailboxNotFound) as caught:
        client.query("nowhere")
    assert caught.value.broker == url
