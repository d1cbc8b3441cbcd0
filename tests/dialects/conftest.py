"""A server with clients that are subscribed to mail."""

import pytest

from .hearing import Post


@pytest.fixture
async def post(hosted):
    """A server with a mailbox ``box``."""
    post = Post(hosted)
    await post.ask("MAILBOX.CREATE", b'{"public":true,"name":"box"}')
    return post
