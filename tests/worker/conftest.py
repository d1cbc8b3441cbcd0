"""A client of a fake broker, on which somebody has a mailbox for answers; PostgreSQL."""

import uuid

import pytest

from tests import postgres_server
from tests.worker.graphs import turns_of


@pytest.fixture
async def client(broker):
    async with broker.client() as client:
        await client.mailbox_create(name="asker")
        yield client


@pytest.fixture
def turns(client):
    return turns_of(client)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server that the tests share."""
    if postgres_server.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres_server.serving() as where:
        yield where


@pytest.fixture
def postgres_database(postgres):
    """An empty database on it."""
    psycopg = pytest.importorskip("psycopg")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.replace("dbname=postgres", f"dbname={name}")
