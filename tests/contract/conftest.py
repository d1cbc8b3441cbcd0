"""Agents that have authenticated."""

import pytest

from mq9.protocol import subjects


@pytest.fixture
def way(open_way, request):
    """A way to a broker; the agents that are configured are the `AGENTS` of the module."""
    return open_way(agents=getattr(request.module, "AGENTS", None))


@pytest.fixture
def operator(client):
    """Who has not authenticated where agents are configured."""
    return client


@pytest.fixture
async def ada(way):
    return await way.client(agent="ada")


@pytest.fixture
async def bob(way):
    return await way.client(agent="bob")


@pytest.fixture
def requests_of(monkeypatch):
    """Count what a client asks a broker from now on, repetitions included: the subjects."""

    def count(client):
        asked = []
        transport = client._connection._transport  # noqa: SLF001  # where all requests pass
        request = transport.request

        async def note(body, mail_address, *rest):
            asked.append(subjects.encode(type(body), mail_address, body.subject_msg_id))
            return await request(body, mail_address, *rest)

        monkeypatch.setattr(transport, "request", note)
        return asked

    return count
