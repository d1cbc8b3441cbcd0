"""Agents that have authenticated."""

import pytest


@pytest.fixture
async def ada(way):
    return await way.client(agent="ada")


@pytest.fixture
async def bob(way):
    return await way.client(agent="bob")
